"""Several workers on one port: whole figures, one budget, restarts, and no process left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from seawall.answers import judge_text

pytestmark = pytest.mark.real

Emulators = Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]
CHAT = "/v1/chat/completions"


def budget(folder: Path) -> dict[str, str]:
    """Return the settings of a budget that the workers of a test share."""
    return {"BUDGET_STORE": "sqlite", "BUDGET_SQLITE_PATH": str(folder / "budget.sqlite")}


def sampled(url: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels, as Prometheus's own parser reads them."""
    text = httpx.get(f"{url}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def workers_of(gateway: Gateway, count: int) -> list[psutil.Process]:
    """Return the worker processes once there are `count` of them."""
    deadline = time.monotonic() + 20
    while True:
        found = psutil.Process(gateway.process.pid).children()
        if len(found) == count:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.02)


def asked_until(gateway: Gateway, holds: Callable[[httpx.Response], bool]) -> None:
    """Ask on new connections until an answer is as wanted."""
    deadline = time.monotonic() + 20
    while not holds(httpx.get(f"{gateway.url}/readyz")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_two_workers_share_the_port_and_their_figures(
    emulators: Emulators, start_gateway: Any, asked: Asked, tmp_path: Path
) -> None:
    """Both answer, and whichever is asked for `/metrics` tells the sum of both."""
    requests = [asked("gemini", stream=n % 2 == 0) for n in range(40)]
    with start_gateway(emulators, "--workers", "2", **budget(tmp_path)) as gateway:

        async def ask(body: dict[str, Any]) -> httpx.Response:
            async with httpx.AsyncClient(timeout=20) as client:  # a connection of its own, so that the kernel deals
                return await client.post(gateway.url + CHAT, json=body)

        answers = await asyncio.gather(*(ask(body) for _, body in requests))
        assert {answer.status_code for answer in answers} == {200}
        served = {answer.headers["x-seawall-worker"] for answer in answers}
        assert served == {f"gateway-{worker.pid}" for worker in workers_of(gateway, 2)}
        for _ in range(6):
            assert sampled(gateway.url, "seawall_requests_total", outcome="ok", provider="gemini") == 40
            assert sampled(gateway.url, "seawall_requests_total", mode="stream") == 20
            assert sampled(gateway.url, "seawall_attempts_total") == 40
            assert sampled(gateway.url, "seawall_workers") == 2
            assert sampled(gateway.url, "seawall_requests_in_flight") == 0
            spent = sampled(gateway.url, "seawall_budget_spent_usd")  # each worker knows what all have spent
            assert spent == pytest.approx(sampled(gateway.url, "seawall_cost_usd_total")) != 0
        assert sampled(gateway.url, "seawall_breakers", provider="gemini", state="closed") == 2


def test_worker_that_dies_is_started_again(
    emulators: Emulators, start_gateway: Any, asked: Asked, tmp_path: Path
) -> None:
    """The others serve on meanwhile, its figures stay, and a worker that dies again and again is told of once."""
    with start_gateway(emulators, "--workers", "2", **budget(tmp_path)) as gateway:
        gateway.says = "worker 0 was ended by SIGKILL; starting it again"
        for _ in range(10):
            assert httpx.post(gateway.url + CHAT, json=asked()[1]).status_code == 200
        first, second = workers_of(gateway, 2)
        for _ in range(2):
            first.kill()
            first.wait(5)
            assert httpx.get(f"{gateway.url}/healthz").headers["x-seawall-worker"] == f"gateway-{second.pid}"
            (first,) = [worker for worker in workers_of(gateway, 2) if worker.pid != second.pid]
            asked_until(gateway, lambda answer, pid=first.pid: answer.headers["x-seawall-worker"] == f"gateway-{pid}")
        assert sampled(gateway.url, "seawall_requests_total") == 10
        assert sampled(gateway.url, "seawall_worker_starts_total") == 4
        assert sampled(gateway.url, "seawall_workers") == 2


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_all_workers_drain(
    slow_emulators: Emulators, start_gateway: Any, asked: Asked, how: signal.Signals, tmp_path: Path
) -> None:
    """Streams on every worker end whole after the supervisor's signal; the exit code is 0 and no process is left."""
    requests = [asked(stream=True) for _ in range(12)]
    with start_gateway(slow_emulators, "--workers", "2", **budget(tmp_path)) as gateway:
        begun = [asyncio.Event() for _ in requests]

        async def read(body: dict[str, Any], began: asyncio.Event) -> str:
            text = ""
            async with gateway.async_client() as client:
                async for chunk in await client.chat.completions.create(**body):
                    began.set()
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
            return text

        work = [asyncio.create_task(read(body, began)) for (_, body), began in zip(requests, begun, strict=True)]
        for began in begun:
            await began.wait()
        workers = workers_of(gateway, 2)
        gateway.process.send_signal(how)
        texts = await asyncio.gather(*work)
        assert await asyncio.to_thread(gateway.process.wait, 5) == 0
    assert not any(worker.is_running() for worker in workers)
    for (request_id, _), text in zip(requests, texts, strict=True):
        assert judge_text(text, request_id).whole


def test_workers_end_with_a_supervisor_that_was_killed(
    emulators: Emulators, start_gateway: Any, tmp_path: Path
) -> None:
    """After SIGKILL of the supervisor no worker is left over."""
    with start_gateway(emulators, "--workers", "2", DRAIN_DELAY="0", **budget(tmp_path)) as gateway:
        workers = workers_of(gateway, 2)
        gateway.process.kill()
        _, left = psutil.wait_procs(workers, 5)
        assert not left


def test_workers_share_a_socket_where_the_kernel_does_not_deal(emulators: Emulators, tmp_path: Path) -> None:
    """Without SO_REUSEPORT the workers listen on one socket of the supervisor's: all serve, one at a time."""
    code = (
        "from seawall.gateway import workers; workers.SHARES_PORT = False; "
        "from seawall.gateway.serve import main; raise SystemExit(main(['--port', '0', '--workers', '2']))"
    )
    environment = {**os.environ, "AIRGAP_MODE": "true", "OLLAMA_HOST": f"http://127.0.0.1:{emulators.ports['local']}"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = line.split()[3]
            assert line.endswith(" with 2 workers (Ctrl-C stops it)\n")
            pids = {f"gateway-{worker.pid}" for worker in psutil.Process(process.pid).children()}
            deadline = time.monotonic() + 10
            while pids:
                pids.discard(httpx.get(f"{url}/healthz").headers["x-seawall-worker"])
                assert time.monotonic() < deadline
            process.terminate()
            assert process.wait(5) == 0
        finally:
            process.kill()


def test_settings_that_only_a_worker_can_refuse_end_the_command(emulators: Emulators, tmp_path: Path) -> None:
    """What is wrong is told once, not once a worker, and nothing is started again: exit code 2."""
    environment = {**os.environ, "AIRGAP_MODE": "true", "LATENCY_FAILOVER_MODEL": "gpt-99"}
    command = [sys.executable, "-m", "seawall.gateway", "--port", "0", "--workers", "4"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count("LATENCY_FAILOVER_MODEL") == 1
