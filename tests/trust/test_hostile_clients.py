"""Hostile clients: whatever they send, or do not send or read, costs bounded memory and time, and nobody else."""

from __future__ import annotations

import asyncio
import json
import resource
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestError
from seawall.gateway.wire import parse_request

pytestmark = pytest.mark.real

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
ASKED = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}).encode()
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: smuggled\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
PARTS = 64 * 1024

# What could be read in two ways, or in none: name → the bytes up to the request that is hidden behind them.
MALFORMED = {
    "length and chunked": CHAT + b"content-length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked and length": CHAT + CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": CHAT + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "the same length twice": CHAT + b"content-length: 1\r\ncontent-length: 1\r\n\r\na",
    "a list of lengths": CHAT + b"content-length: 1, 1\r\n\r\na",
    "a length with a sign": CHAT + b"content-length: +1\r\n\r\na",
    "a length before a space": CHAT + b"content-length : 1\r\n\r\na",
    "a length beyond 64 bits": CHAT + b"content-length: 99999999999999999999999\r\n\r\n",
    "a folded header": CHAT + b"x-a: b\r\n c: d\r\n\r\n",
    "bare line feeds": CHAT.replace(b"\r\n", b"\n") + b"\n",
    "a bare carriage return": CHAT + b"x-a: b\rx-b: c\r\n\r\n",
    "a zero byte": CHAT + b"x-a: b\0c\r\n\r\n",
    "another coding": CHAT + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": CHAT + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": CHAT + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "a vertical tab": CHAT + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a negative chunk": CHAT + CHUNKED + b"\r\n-1\r\na\r\n0\r\n\r\n",
    "a hexadecimal prefix": CHAT + CHUNKED + b"\r\n0x1\r\na\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": CHAT + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\na\r\n0\r\n\r\n",
    "a chunk that is too long": CHAT + CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "chunks with bare line feeds": CHAT + CHUNKED + b"\r\n1\na\n0\n\n",
    "no host": CHAT.replace(b"host: a\r\n", b"") + b"content-length: 0\r\n\r\n",
    "two hosts": CHAT + b"host: b\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nhost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no words": b"\xff\xfe\xfd\r\n\r\n",
}


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return all until the end; a reset is one too."""
    got = b""
    try:
        while data := await asyncio.wait_for(reader.read(PARTS), 20):
            got += data
    except ConnectionError:
        pass
    return got


async def said(gateway: Any, data: bytes) -> bytes:
    """Return all that the gateway says to some bytes before it closes."""
    reader, writer = await gateway.open()
    writer.write(data)
    try:
        return await read_all(reader)
    finally:
        writer.close()


async def flood(gateway: Any, begin: bytes, part: bytes, most: int = 200_000_000) -> tuple[int, bytes]:
    """Send `part` over and over until the gateway stops it; return how much it let come, and its answer."""
    reader, writer = await gateway.open()
    writer.write(begin)
    sent = 0
    answer = asyncio.create_task(read_all(reader))
    try:
        while sent < most and not answer.done():
            writer.write(part)
            sent += len(part)
            await writer.drain()
            # A drain alone does not wait while the kernel takes all: the answer would never be read.
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    try:
        return sent, await answer
    finally:
        writer.close()


async def test_what_can_be_read_in_two_ways_is_refused(start_gateway: Any) -> None:
    """Each smuggling shape and each thing that is no HTTP/1.1 gets 400 and the end: nothing behind it is answered."""
    async with start_gateway() as gateway, gateway.attacked("malformed HTTP"):
        for name, data in MALFORMED.items():
            got = await said(gateway, data + SMUGGLED)
            assert got.startswith(b"HTTP/1.1 400 "), (name, got[:100])
            assert got.count(b"HTTP/1.1 ") == 1, (name, got)
        # A trailer is not part of any head, its own request's or the next one's.
        again = CHAT + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(ASKED), ASKED)
        trailer = b"x-request-id: from-a-trailer\r\nhost: b\r\n"
        chunks = CHAT + CHUNKED + b"\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (len(ASKED), ASKED, trailer)
        got = await said(gateway, chunks + again)
        assert got.count(b"HTTP/1.1 200 OK") == 2
        assert b"from-a-trailer" not in got
        # Nothing is written into an answer that is under way.
        got = await said(gateway, again.replace(b"connection: close\r\n", b"") + b"\0\0\0")
        assert got.count(b"HTTP/1.1 ") == 1
        assert b"the good answer" in got


async def test_heads_and_what_is_no_body_have_an_end(start_gateway: Any) -> None:
    """Endless headers, lines, addresses, trailers, chunk extensions and empty lines are cut off soon."""
    junk = b"x" * PARTS
    endless = {
        "a header": (CHAT + b"x-a: ", junk),
        "a name": (CHAT, junk),
        "headers": (CHAT, b"x-a: b\r\n" * 8000),
        "an address": (b"GET /", junk),
        "a trailer": (CHAT + CHUNKED + b"\r\n0\r\nx-a: ", junk),
        "trailers": (CHAT + CHUNKED + b"\r\n1\r\n \r\n0\r\n", b"x-a: b\r\n" * 8000),
        "a chunk extension": (CHAT + CHUNKED + b"\r\n1;a=", junk),
        "empty lines": (b"", b"\r\n" * 32_000),
    }
    async with start_gateway() as gateway, gateway.attacked("endless heads"):
        for name, (begin, part) in endless.items():
            sent, got = await flood(gateway, begin, part)
            assert sent < 20_000_000, (name, sent)
            assert not got or got.startswith(b"HTTP/1.1 4"), (name, got[:100])
        many = CHAT + b"x-a: b\r\n" * 200 + b"content-length: 0\r\n\r\n"
        assert (await said(gateway, many)).startswith(b"HTTP/1.1 431 ")
        got = await said(gateway, CHAT + b"x-a: " + b"b" * 70_000 + b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 431 ")


async def test_long_bodies_are_refused_and_not_kept(start_gateway: Any) -> None:
    """100 MB by a length, in chunks and in tiny chunks: 413, or 408 for the slowest; a stranger may send far less."""
    big = b"x" * (1 << 20)
    async with start_gateway(CLIENT_SEND_TIMEOUT="1s") as gateway, gateway.attacked("bodies of 100 MB"):
        for begin, part in (
            (CHAT + b"content-length: 100000000\r\n\r\n", big),
            (CHAT + CHUNKED + b"\r\n", b"%x\r\n%b\r\n" % (len(big), big)),
            (CHAT.replace(b"1.1", b"1.0") + b"content-length: 100000000\r\n\r\n", big),
            (CHAT + b"expect: 100-continue\r\n" + CHUNKED + b"\r\n", b"%x\r\n%b\r\n" % (len(big), big)),
            (CHAT + CHUNKED + b"\r\n", b"2\r\nxx\r\n" * 20_000),
        ):
            _, got = await flood(gateway, begin, part, 100_000_000)
            assert b"HTTP/1.1 413 " in got or b"HTTP/1.1 408 " in got, (begin, got[:200])
    async with start_gateway(SEAWALL_API_KEYS="sk-known", OPENAI_API_KEY="") as gateway:
        reader, writer = await gateway.open()
        writer.write(CHAT + b"content-length: 1000000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_all_bodies_together_have_a_limit(start_gateway: Any) -> None:
    """Many who send half a body share BODIES_BYTES_MAX; one more long body gets 503, a short one is answered."""
    half = CHAT + b"content-length: 4000000\r\n\r\n" + b"x" * 3_000_000
    async with start_gateway(BODIES_BYTES_MAX=str(32 << 20)) as gateway:
        async with gateway.attacked("40 halves of a body", grows_mb=100):
            open_ones = [await gateway.open() for _ in range(40)]
            for _, writer in open_ones:
                writer.write(half)
            waits = [asyncio.ensure_future(reader.read(12)) for reader, _ in open_ones]
            done, left = await asyncio.wait(waits, timeout=2)
            heads = [each.result() for each in done]
            for each in left:
                each.cancel()
            assert len(heads) >= 25, len(heads)
            assert set(heads) == {b"HTTP/1.1 503"}
        for _, writer in open_ones:
            writer.close()
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient(trust_env=False) as client:  # they are gone, and so is what was held for them
            long = json.loads(ASKED) | {"user": "x" * 3_000_000}
            answers = [await client.post(f"{gateway.url}/v1/chat/completions", json=long) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200}


async def test_slow_clients_are_told_so(start_gateway: Any) -> None:
    """200 slow-lorises, in the head and in the body, are gone after CLIENT_SEND_TIMEOUT, and idle ones after theirs."""
    times = {"CLIENT_SEND_TIMEOUT": "1s", "CLIENT_IDLE_TIMEOUT": "1s"}
    async with start_gateway(**times) as gateway, gateway.attacked("slow-loris"):

        async def drip(begin: bytes) -> bytes:
            reader, writer = await gateway.open()
            answer = asyncio.create_task(read_all(reader))
            writer.write(begin)
            while not answer.done():
                await asyncio.sleep(0.2)
                writer.write(b"x")
            writer.close()
            return await answer

        async with asyncio.timeout(15):
            starts = [CHAT + b"x-a: ", CHAT + b"content-length: 1000\r\n\r\n", b"P"]
            got = await asyncio.gather(*[drip(starts[n % 2]) for n in range(200)])
            assert {each[:12] for each in got} == {b"HTTP/1.1 408"}
            assert await said(gateway, b"") == b""
        await asyncio.sleep(0.2)
        assert gateway.descriptors() < 40


async def test_deep_and_broken_json_is_refused(start_gateway: Any) -> None:
    """Deep nesting, bytes that are no UTF-8, and values that no number is get 400, and no traceback."""
    deep = b"[" * 500_000
    bodies = [
        deep,
        b'{"a":' * 200_000,
        b'{"messages": ' + deep + b"]" * 500_000 + b"}",
        b'{"messages":[{"role":"user","content":"hi"}],"logit_bias":' + deep + b"]" * 500_000 + b"}",
        b'{"messages":[{"role":"user","content":"hi"}],"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"hi"}],"temperature":NaN}',
        b'{"messages":[{"role":"user","content":"hi"}],"temperature":1e999}',
        b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":' + b"9" * 5000 + b"}",
        b"\0" * 1000,
    ]
    async with (
        start_gateway() as gateway,
        gateway.attacked("deep and broken JSON"),
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
    ):
        for body in bodies:
            answer = await client.post(f"{gateway.url}/v1/chat/completions", content=body)
            assert answer.status_code == 400, (body[:60], answer.text[:200])
            assert len(answer.content) < 2000
        # An integer beyond 64 bits is one that no provider could be sent.
        huge = json.loads(ASKED) | {"seed": 10**30}
        assert (await client.post(f"{gateway.url}/v1/chat/completions", json=huge)).status_code in (200, 400)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda inner: st.one_of(
                st.lists(inner),
                st.dictionaries(st.sampled_from(["messages", "role", "content", "tools", "stop", "n", "seed"]), inner),
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_body_is_a_request_or_a_clear_error(body: bytes) -> None:
    """No bytes and no JSON make anything else of the reader of requests than a request or RequestError."""
    with suppress(RequestError):
        parse_request(body, "id")


async def test_who_stops_reading_is_let_go(start_gateway: Any, provider: Any) -> None:
    """SSE clients that read nothing cost little and are cut off in time, and the provider's stream with them."""
    left = asyncio.Event()
    event = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 8000)

    async def endless(_body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
        finally:
            left.set()

    asked = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    async with provider(endless).serving() as hostile, start_gateway(hostile, CLIENT_READ_TIMEOUT="1s") as gateway:
        # The kernel takes some 6 MB of each stream, and the router keeps what is delivered in case another goes on.
        async with gateway.attacked("SSE clients that stop reading", grows_mb=250):
            ones = [await gateway.open() for _ in range(20)]
            for _, writer in ones:
                writer.transport.pause_reading()
                writer.write(CHAT + b"content-length: %d\r\n\r\n%b" % (len(asked), asked))
            async with asyncio.timeout(20):
                await left.wait()
                while gateway.descriptors() > 30:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            for _, writer in ones:
                writer.transport.abort()
        async with gateway.attacked("pipelined requests whose answers nobody reads"):
            _, writer = await gateway.open()
            writer.transport.pause_reading()
            one = CHAT + b"content-length: %d\r\n\r\n%b" % (len(ASKED), ASKED)
            try:
                for _ in range(100):
                    writer.write(one * 100)
                    await asyncio.wait_for(writer.drain(), 0.02)
            except (ConnectionError, TimeoutError):
                pass
            await asyncio.sleep(0.5)
            writer.transport.abort()


async def test_pipelined_requests_have_a_limit(start_gateway: Any) -> None:
    """Of hundreds at once the first are answered, whole and in turn, and the connection then closes."""
    one = CHAT + b"content-length: %d\r\n\r\n%b" % (len(ASKED), ASKED)
    async with start_gateway() as gateway, gateway.attacked("pipelined requests"):
        got = await said(gateway, one * 500)
        assert 20 <= got.count(b"HTTP/1.1 200 OK") == got.count(b"the good answer") <= 100


async def test_idle_connections_leave_room(start_gateway: Any) -> None:
    """Of 5,000 idle connections those beyond CONNECTIONS_MAX go, the longest waiting first: who asks is served."""
    wanted = _possible(5000)
    async with (
        start_gateway(CONNECTIONS_MAX="1500") as gateway,
        gateway.attacked(f"{wanted} idle connections where 1500 may be"),
    ):
        ones = [await gateway.open() for _ in range(wanted)]
        await asyncio.sleep(0.3)
        assert gateway.descriptors() < 1600
        await _ask_and_leave(gateway, ones)


async def test_idle_connections_are_held(start_gateway: Any) -> None:
    """5,000 idle connections at one time cost little, and nobody anything; none of them is closed before its time."""
    wanted = _possible(5000)
    async with start_gateway() as gateway:
        before_mb = gateway.resident_mb("VmRSS")
        async with gateway.attacked(f"{wanted} idle connections at one time", grows_mb=150):
            ones = [await gateway.open() for _ in range(wanted)]
            await asyncio.sleep(1)
            assert gateway.descriptors() >= wanted
            assert not any(reader.at_eof() for reader, _ in ones)
            print(f"each takes {(gateway.resident_mb('VmRSS') - before_mb) * 1024 / wanted:.1f} kB")
            await _ask_and_leave(gateway, ones)
        async with asyncio.timeout(10):
            while gateway.descriptors() > 60:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)


async def _ask_and_leave(gateway: Any, ones: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    got = await said(gateway, CHAT + b"connection: close\r\ncontent-length: 2\r\n\r\n{}")
    assert got.startswith(b"HTTP/1.1 400")
    for _, writer in ones:
        writer.transport.abort()
    await asyncio.sleep(0.2)


def _possible(wanted: int) -> int:
    """Let this process have so many files open, and return how many idle connections the system allows both sides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The gateway keeps a second descriptor free for each client, and 256 beside.
    needed = 2 * wanted + 1000
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    possible = wanted if soft == resource.RLIM_INFINITY else min(wanted, (soft - 600) // 2)
    if possible < wanted:
        print(f"this system allows {hard} open files: {possible} idle connections instead of {wanted}")
    return possible
