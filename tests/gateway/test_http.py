"""The gateway as bare HTTP: what it refuses and how, its small routes, its headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from seawall.answers import judge_text
from seawall.gateway.wire import UNSUPPORTED, ChatRequest

pytestmark = pytest.mark.real

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]
CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "hi"}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the shared gateway."""
    with httpx.Client(base_url=gateway.url, timeout=20, trust_env=False) as client:
        yield client


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Return status, code and message of an error, which must have OpenAI's form."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a chat completion request"),
        (b"{", "not a chat completion request"),
        (b"hello", "not a chat completion request"),
        (b"null", "not a chat completion request"),
        (b"[]", "Expected `object`"),
        (b"\xff\xfe", "not a chat completion request"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not a chat completion request"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not a chat completion request"),
        (b'{"model": "gemini"}', "missing required field `messages`"),
        (b'{"messages": "hi"}', "$.messages"),
        (b'{"messages": [{"content": "hi"}]}', "missing required field `role`"),
        (b'{"messages": [{"role": "user", "content": 7}]}', "$.messages[0].content"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "stop": [1]}', "$.stop"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "stream": "yes"}', "$.stream"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}', "not a chat completion request"),
        (b"[" * 100_000, "not a chat completion request"),
    ],
)
def test_body_that_is_no_request_is_400(http: httpx.Client, body: bytes, words: str) -> None:
    """Whatever bytes come: 400 in OpenAI's form, with the place and the reason."""
    status, code, message = refusal(http.post(CHAT, content=body))
    assert (status, code) == (400, "bad_request")
    assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "messages is empty; send at least one"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role is 'wizard'; known are system"),
        ({"messages": [*USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id is missing"),
        ({"messages": [*USER, {"role": "tool", "content": "x", "tool_call_id": "c"}]}, "answers no tool call"),
        ({"messages": [*USER, {"role": "assistant", "tool_calls": [CALL]}]}, "messages[1].tool_calls: 'c' has no"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "only the assistant calls tools"),
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content is missing"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content[0].image_url.url is no URL"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
            "'file'; this gateway takes text and image_url",
        ),
        ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "takes text of the assistant"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text is missing"),
        ({"tools": [{"type": "function"}]}, "tools[0] is of type 'function'; this gateway takes"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0] is of type 'custom'"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name is 'a b'"),
        ({"tool_choice": "required"}, "tool_choice is 'required', but tools is empty"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice names no function"),
        ({"functions": [{"name": "f"}]}, "functions: not supported"),
        ({"logprobs": True, "audio": {"voice": "alloy"}}, "logprobs, audio: not supported"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema is missing"),
        ({"response_format": {"type": "xml"}}, "$.response_format.type"),
        ({"temperature": 3}, "Expected `float` <= 2.0 - at `$.temperature`"),
        ({"stop": [""]}, "stop has an empty sequence"),
        ({"n": 3}, "n is 3; this gateway gives one answer a request"),
        ({"max_tokens": -1}, "max_tokens is -1; it must be from 1 to 1000000"),
        ({"max_completion_tokens": 10_000_000}, "max_tokens is 10000000"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_gateway_cannot_do_is_400_and_says_so(
    http: httpx.Client, stream: bool, change: dict[str, Any], words: str
) -> None:
    """A request that would be answered wrongly is refused, with the field and the way out."""
    body = {"messages": USER, "stream": stream, **change}
    status, code, message = refusal(http.post(CHAT, json=body))
    assert (status, code) == (400, "bad_request")
    assert words in message


def test_what_changes_nothing_is_ignored(http: httpx.Client, asked: Asked) -> None:
    """Fields that do not change the answer, and those with their default value, are no reason to refuse."""
    request_id, body = asked(n=1, tools=[], functions=None, user="me", seed=7, logprobs=False, unheard_of={"a": 1})
    answer = http.post(CHAT, json=body)
    assert answer.status_code == 200
    assert judge_text(answer.json()["choices"][0]["message"]["content"], request_id).whole


@pytest.mark.parametrize("told", ["my-id", "a.b_c-1", "x" * 64])
@pytest.mark.parametrize("stream", [False, True])
def test_request_id_is_echoed(http: httpx.Client, asked: Asked, told: str, stream: bool) -> None:
    """The caller's x-request-id comes back, in the header and in the answer's id."""
    _, body = asked(stream=stream)
    answer = http.post(CHAT, json=body, headers={"x-request-id": told})
    assert answer.headers["x-request-id"] == told
    assert f'"id":"chatcmpl-{told}"' in answer.text


@pytest.mark.parametrize("told", ["", "x" * 65, "a b", "a\tb", "<script>", "\u00e9"])
def test_request_id_that_is_none_is_replaced(http: httpx.Client, asked: Asked, told: str) -> None:
    """What could do harm in a log gets an id of ours instead, on answers and on errors alike."""
    _, body = asked()
    headers = {"x-request-id": told.encode("latin-1")}
    for answer in (http.post(CHAT, json=body, headers=headers), http.post(CHAT, content=b"{", headers=headers)):
        made = answer.headers["x-request-id"]
        assert made != told
        assert len(made) == 32


def test_body_over_the_limit_is_413(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """Told by its length or found while reading, a body over BODY_BYTES_MAX is refused; one at the limit is not."""
    request_id, body = asked()
    with start_gateway(emulators, BODY_BYTES_MAX="2048") as gateway, httpx.Client(base_url=gateway.url) as http:
        fits = json.dumps(body).encode()
        fits += b" " * (2048 - len(fits))
        for content in (fits, iter([fits[:1000], fits[1000:]])):
            assert http.post(CHAT, content=content).status_code == 200
        for content in (fits + b" ", iter([fits, b" "]), iter([b" " * 1000] * 10)):
            status, code, message = refusal(http.post(CHAT, content=content))
            assert (status, code) == (413, "bad_request")
            assert "longer than 2048 bytes (BODY_BYTES_MAX)" in message
        # The connection lives on, or a new one serves: the gateway is not stuck with the rest of a body.
        assert http.post(CHAT, content=fits).status_code == 200
    assert len(emulators.calls(request_id, 3)) == 3


def test_body_that_only_claims_to_be_long_is_refused_at_once(gateway: Gateway) -> None:
    """A content-length over the limit is answered before the body is sent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as wire:
        wire.sendall(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        assert wire.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_request_without_the_key_is_401(emulators: Emulators, start_gateway: Any) -> None:
    """Nothing, another scheme, or another key is 401, before the body is read at all."""
    with (
        start_gateway(emulators, SEAWALL_API_KEYS="sk-one") as gateway,
        httpx.Client(base_url=gateway.url) as http,
    ):
        for given in ("", "sk-one", "Basic sk-one", "Bearer", "Bearer sk-two", "bearer\tsk-one", "Bearer sk-one x"):
            headers = {"authorization": given} if given else {}
            status, code, message = refusal(http.post(CHAT, content=b"not even JSON", headers=headers))
            assert (status, code) == (401, "invalid_api_key"), given
            assert "Authorization: Bearer" in message
        assert http.post(CHAT, json={"messages": USER}, headers={"authorization": "bearer sk-one"}).status_code == 200
        assert http.get("/healthz").status_code == 200


def test_small_routes_answer(http: httpx.Client) -> None:
    """Liveness, readiness and the list of models."""
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    models = http.get("/v1/models").json()
    assert models["object"] == "list"
    assert {"id": "seawall", "object": "model", "created": 0, "owned_by": "seawall"} in models["data"]


def test_router_status_shows_breakers_and_spend(emulators: Emulators, start_gateway: Any, asked: Asked) -> None:
    """An open breaker, a cooldown and today's spend are there to see."""
    with (
        start_gateway(emulators, CIRCUIT_BREAKER_FAILURE_THRESHOLD="1", OPENAI_API_KEY="") as gateway,
        httpx.Client(base_url=gateway.url) as http,
        emulators.misbehaving("gemini", status=429, retry_after_s=20),
    ):
        fresh = http.get("/v1/router/status").json()
        assert (set(fresh["providers"]), fresh["spent_usd"]) == ({"gemini", "claude", "openai", "local"}, 0.0)
        http.post(CHAT, json=asked()[1])
        status = http.get("/v1/router/status").json()
        gemini = status["providers"]["gemini"]
        assert (gemini["breaker"], gemini["last_error"]) == ("open", "rate_limited")
        assert 10 < gemini["cooling_down_s"] <= 20
        assert status["providers"]["claude"]["latency_ms"] > 0
        assert status["providers"]["openai"]["has_key"] is False
        assert status["spent_usd"] > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("PUT", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
    ],
)
def test_wrong_method_or_path_is_told(http: httpx.Client, method: str, path: str, status: int) -> None:
    """What is not there is 404, what is there for another method is 405."""
    assert http.request(method, path).status_code == status


def test_documentation_has_every_route(http: httpx.Client) -> None:
    """`/openapi.json` documents the chat route, its body and its summary, and the small ones."""
    document = http.get("/openapi.json").json()
    assert {CHAT, "/v1/models", "/healthz", "/readyz", "/v1/router/status"} <= set(document["paths"])
    chat = document["paths"][CHAT]["post"]
    schema = chat["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["messages"]
    assert set(schema["properties"]) == set(ChatRequest.__struct_fields__) - set(UNSUPPORTED)
    assert "server-sent events" in chat["description"]
    assert http.get("/docs").status_code == 200


def test_no_header_tells_what_serves(http: httpx.Client, asked: Asked) -> None:
    """An answer names neither the server software nor anything of the provider's headers."""
    names = set(http.post(CHAT, json=asked("openai")[1]).headers)
    assert names == {
        "content-length",
        "content-type",
        "date",
        "x-request-id",
        "x-seawall-attempts",
        "x-seawall-cost-usd",
        "x-seawall-model",
        "x-seawall-provider",
    }
