"""The gateway keeps to its own OpenAPI document, whatever requests are made from it: Schemathesis draws them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

load_all_checks()
pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KEY = "sk-of-this-test"
MODELS = ("seawall", "gpt-4o", "claude-haiku", "gemini", "local", "auto")
GOOD = {"messages": [{"role": "user", "content": "What does a seawall do?"}]}
FREE = ("model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed", "user", "stop")
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
CHAT_PATH = "/v1/chat/completions"
CHAT = f"POST {CHAT_PATH}"


def test_every_answer_conforms(emulators: Any, start_gateway: Any) -> None:
    """Good and bad requests, with the key and without: only statuses, types and bodies that the document has."""
    statuses: Counter[tuple[str, int]] = Counter()
    with (
        start_gateway(emulators, SEAWALL_API_KEYS=KEY) as gateway,
        httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as http,
    ):
        schema = schemathesis.openapi.from_dict(http.get("/openapi.json").json())
        for found in schema.get_all_operations():
            operation: Any = found.ok()  # pyright: ignore[reportAttributeAccessIssue]
            _ask(operation, GenerationMode.POSITIVE, 100 if operation.label == CHAT else 12, http, statuses)
        # Nothing about a route without parameters can be wrong.
        _ask(schema[CHAT_PATH]["POST"], GenerationMode.NEGATIVE, 60, http, statuses)
    print(f"{sum(statuses.values())} requests: {dict(sorted(statuses.items()))}")
    assert len({label for label, _ in statuses}) == 6
    assert statuses[CHAT, 200] >= 10
    assert statuses[CHAT, 400] >= 20
    assert statuses[CHAT, 401] >= 1
    assert statuses["GET /v1/models", 401] >= 1


def _ask(
    operation: Any, mode: GenerationMode, many: int, http: httpx.Client, statuses: Counter[tuple[str, int]]
) -> None:
    strategy = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=many,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(
        case=strategy,
        model=st.sampled_from([None, *MODELS]),
        key=st.sampled_from((KEY, KEY, KEY, "wrong")),
        kept=st.one_of(st.none(), st.sets(st.sampled_from(FREE))),
    )
    def ask(case: Any, model: str | None, key: str, kept: set[str] | None) -> None:
        if model is not None and isinstance(case.body, dict):
            case.body["model"] = model
            if kept is not None:  # what no schema says: which turns make a conversation, and what may go together
                case.body = {name: value for name, value in case.body.items() if name in kept} | GOOD
        answer = case.call(base_url=str(http.base_url), headers={"authorization": f"Bearer {key}"}, timeout=30)
        statuses[operation.label, answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    ask()
