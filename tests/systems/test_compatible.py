"""Every emulated provider answers in OpenAI's format too, as the vendors' compatible endpoints do."""

from __future__ import annotations

import msgspec
import pytest

from seawall.answers import judge_text
from seawall.emulators.behaviour import read, respond
from seawall.emulators.steps import Behaviour, Body, End, Head, Healthy
from seawall.emulators.wire import EmulatedCall, HttpRequest
from seawall.systems.base import COMPATIBLE_PATHS

HEALTHY = Healthy(first_token_p50_s=0.01, first_token_p99_s=0.02, tokens_per_second=100.0, tokens=8)


def asked(provider: str, *, stream: bool = False) -> EmulatedCall:
    """Return what a request in OpenAI's format is to a provider."""
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "[sw:000007] Hello"}]}
    request = HttpRequest(
        method="POST",
        path=f"{COMPATIBLE_PATHS[provider]}/chat/completions",
        query={},
        headers={"authorization": "Bearer emulated"},
        body=msgspec.json.encode(body),
    )
    call = read(provider, request)
    assert isinstance(call, EmulatedCall)
    return call


def played(call: EmulatedCall, *behaviours: Behaviour) -> tuple[int, bytes, bool]:
    """Return status, body and whether the body came to its end."""
    steps = list(respond(call, HEALTHY, behaviours, seed=1, nth=1))
    status = next(step.status for step in steps if isinstance(step, Head))
    body = b"".join(step.data for step in steps if isinstance(step, Body))
    return status, body, any(isinstance(step, End) for step in steps)


@pytest.mark.parametrize("provider", COMPATIBLE_PATHS)
def test_the_text_is_the_providers_own(provider: str) -> None:
    """The answer is one of OpenAI's by its shape and shows by its text which provider gave it."""
    _, body, _ = played(asked(provider))
    text = msgspec.json.decode(body)["choices"][0]["message"]["content"]
    judgement = judge_text(text, "000007")
    assert (judgement.problem, list(judgement.providers)) == (None, [provider])


@pytest.mark.parametrize("provider", COMPATIBLE_PATHS)
def test_a_stream_ends_as_openais_do(provider: str) -> None:
    """A stream there ends in OpenAI's mark, whoever gives it, and without it when that is what is wrong."""
    assert played(asked(provider, stream=True))[1].endswith(b"data: [DONE]\n\n")
    assert b"[DONE]" not in played(asked(provider, stream=True), Behaviour(fault_id="f", no_done=True))[1]


@pytest.mark.parametrize("provider", COMPATIBLE_PATHS)
def test_an_error_is_in_openais_format(provider: str) -> None:
    """A status that a fault makes comes with OpenAI's error body and the pause in its header."""
    steps = list(respond(asked(provider), HEALTHY, [Behaviour(fault_id="f", status=429, retry_after_s=30.0)], 1, 1))
    head = next(step for step in steps if isinstance(step, Head))
    body = b"".join(step.data for step in steps if isinstance(step, Body))
    assert (head.status, dict(head.headers)["retry-after"]) == (429, "30")
    assert isinstance(msgspec.json.decode(body)["error"]["message"], str)
