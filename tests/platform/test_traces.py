"""Traces: a real Jaeger has them as they happened, and one that is down or hangs is nobody's loss."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from jaeger_parts import Jaeger, jaeger_in, tags
from platform_parts import Running

from seawall.ports import HeldPort

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]  # the first time Jaeger is built, which takes minutes

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "100", "TELEMETRY": "otel"}

Start = Callable[..., AbstractContextManager[Running]]
Question = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """A running Jaeger."""
    with jaeger_in(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


def ask(port: int, body: dict[str, Any], **headers: str) -> tuple[int, bytes]:
    """Send one chat completion; return the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json", **named})
    answer = connection.getresponse()
    told = answer.status, answer.read()
    connection.close()
    return told


def dropped(port: int) -> int:
    """Return how many spans the gateway says it has dropped."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    (line,) = (line for line in text.splitlines() if line.startswith('seawall_trace_spans_total{outcome="dropped"}'))
    return int(line.split()[1])


@pytest.mark.parametrize("stream", [False, True])
def test_failover_is_one_trace_in_jaeger(
    jaeger: Jaeger, start_gateway: Start, question: Question, stream: bool
) -> None:
    """A server span below the caller's, an attempt that failed and opened a breaker, one that answered; no text."""
    settings = {
        **QUICK,
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.endpoint,
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1",
    }
    trace_id = TRACE[:-1] + str(int(stream))
    with HeldPort() as nobody:
        settings["GEMINI_BASE_URL"] = f"http://127.0.0.1:{nobody.port}"
        with start_gateway(**settings) as gateway:
            parent = f"00-{trace_id}-{PARENT}-01"
            status, _ = ask(
                gateway.port, question("my secret question", stream=stream), traceparent=parent, x_request_id="r-1"
            )
    assert status == 200
    request, failed, good = jaeger.spans(trace_id, count=3)
    assert (request["operationName"], tags(request)["span.kind"]) == ("POST /v1/chat/completions", "server")
    assert [each["references"][0]["spanID"] for each in (request, failed, good)] == [
        PARENT,
        request["spanID"],
        request["spanID"],
    ]
    assert (
        tags(request).items()
        >= {
            "http.response.status_code": 200,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.usage.output_tokens": 20,
            "seawall.attempts": 2,
            "seawall.request.id": "r-1",
        }.items()
    )
    assert (
        tags(failed).items()
        >= {
            "span.kind": "client",
            "gen_ai.provider.name": "gcp.gemini",
            "error": True,
            "otel.status_code": "ERROR",
        }.items()
    )
    assert tags(good)["seawall.attempt.reason"] == "failover"
    assert ("gen_ai.response.time_to_first_chunk" in tags(good)) is stream
    (change,) = (tags(log, "fields") for log in failed["logs"])
    assert change["event"] == "seawall.breaker"
    assert (change["seawall.breaker.from"], change["seawall.breaker.to"]) == ("closed", "open")
    events = [tags(log, "fields")["event"] for log in request["logs"]]
    assert {"seawall.budget.reserve", "seawall.budget.settle"} <= set(events)
    everything = json.dumps([request, failed, good])
    assert "secret question" not in everything
    assert "a-key" not in everything


def test_sampling_follows_the_caller_and_else_the_ratio(
    jaeger: Jaeger, start_gateway: Start, question: Question
) -> None:
    """With a ratio of none, what a caller has sampled is traced and nothing else is."""
    settings = {
        **QUICK,
        "OTEL_SERVICE_NAME": "sampled",
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0",
    }
    sampled, not_sampled = TRACE.replace("0a", "1a"), TRACE.replace("0a", "2a")
    with start_gateway(**settings) as gateway:
        for headers in (
            {},
            {"traceparent": f"00-{not_sampled}-{PARENT}-00"},
            {"traceparent": f"00-{sampled}-{PARENT}-01"},
        ):
            assert ask(gateway.port, question(), **headers)[0] == 200
    assert len(jaeger.spans(sampled, count=2)) == 2
    with pytest.raises(AssertionError):
        jaeger.spans(not_sampled, count=2, wait_s=0.5)
    assert jaeger.traces("sampled") == [sampled]


@pytest.fixture(params=["down", "hanging"])
def collector(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a collector that refuses connections, or takes them and says nothing."""
    if request.param == "down":
        with HeldPort() as held:
            yield f"http://127.0.0.1:{held.port}"
        return
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        taken: list[socket.socket] = []
        server.settimeout(0.1)
        over = threading.Event()

        def take() -> None:
            while not over.is_set():
                try:
                    taken.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()
            for each in taken:
                each.close()


def test_collector_that_fails_is_nobodys_loss(collector: str, start_gateway: Start, question: Question) -> None:
    """Every answer is whole and as fast as without, what has no room is dropped and counted, and the end is quick."""
    settings = {
        **QUICK,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
    }

    def seen(**more: str) -> tuple[list[float], int, float]:
        took, workers = [], []

        def client(port: int) -> None:
            for _ in range(10):
                began = time.monotonic()
                status, body = ask(port, question())
                took.append(time.monotonic() - began)
                assert status == 200
                assert json.loads(body)["choices"][0]["finish_reason"] == "stop"
                answers.append(1)

        answers: list[int] = []
        with start_gateway(**more) as gateway:
            workers = [threading.Thread(target=client, args=(gateway.port,)) for _ in range(6)]
            for each in workers:
                each.start()
            for each in workers:
                each.join()
            lost = dropped(gateway.port)
            began = time.monotonic()
            gateway.process.terminate()
            gateway.process.wait(20)
        assert len(answers) == 60
        return took, lost, time.monotonic() - began

    without, none, _ = seen()
    took, lost, ended_s = seen(**settings)
    assert none == 0
    assert lost > 0
    assert statistics.median(took) < 2 * statistics.median(without) + 0.1
    assert max(took) < max(without) + 2
    assert ended_s < 10


def test_what_cannot_be_done_is_told() -> None:
    """A sampler, a ratio, a protocol or an exporter that we do not know is one clear error that names its variable."""
    from router.errors import ConfigurationError
    from seawall.telemetry.export import begin_export

    for name, value in (
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
    ):
        with pytest.raises(ConfigurationError, match=name):
            begin_export("gateway-1", {name: value})
    with pytest.raises(ConfigurationError, match="OTEL_TRACES_SAMPLER_ARG"):
        begin_export("gateway-1", {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"})
    assert begin_export("gateway-1", {"OTEL_TRACES_EXPORTER": "none"}) is None
