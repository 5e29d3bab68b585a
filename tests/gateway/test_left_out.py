"""The header that says what a model was asked without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.real

Gateway = Any  # see conftest.py
Asked = Callable[..., tuple[str, dict[str, Any]]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "left"), [("claude-haiku", "temperature, top_p"), ("gpt-6.1-sol", "temperature, top_p"), ("gpt-4o", None)]
)
def test_answer_says_which_parameters_were_left_out(
    gateway: Gateway, asked: Asked, model: str, left: str | None, stream: bool
) -> None:
    """A client that sends a temperature to a model without one is answered and told, in JSON and in a stream."""
    _, body = asked(model, temperature=0.2, top_p=0.9, stream=stream)
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(**body)
    assert raw.headers.get("x-seawall-left-out") == left
