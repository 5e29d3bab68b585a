"""The vendors' own ways to say no, and what their parsers read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seawall.emulators.behaviour import VENDORS, EmulatedCall
from seawall.emulators.wire import HttpRequest, Reply

PROVIDERS = sorted(VENDORS)
KEYED = ["claude", "gemini", "openai"]


def refused(provider: str, request: HttpRequest) -> tuple[int, Any]:
    """Return status and content of a refusal."""
    reply = VENDORS[provider].parse(request)
    assert isinstance(reply, Reply), reply
    assert dict(reply.headers)["content-type"] == "application/json"
    return reply.status, json.loads(reply.body)


def kind_of(provider: str, content: Any) -> Any:
    """Return what the vendor's clients tell errors by; a KeyError means that the shape is not the vendor's."""
    if provider == "local":
        assert isinstance(content["error"], str)
        return None
    assert isinstance(content["error"]["message"], str)
    if provider == "claude":
        assert content["type"] == "error"
    return content["error"]["status" if provider == "gemini" else "type"]


@pytest.mark.parametrize("provider", KEYED)
def test_a_missing_key_is_401(chat, provider):
    """Without its key header, or with an empty one, a cloud provider answers 401 before it looks at the body."""
    asked = chat(provider, "hi")
    empty = {name: "Bearer " if name == "authorization" else "" for name in asked.headers}
    for headers in ({}, empty):
        status, content = refused(provider, asked._replace(headers=headers, body={}).request())
        assert status == 401
        assert kind_of(provider, content) in ("authentication_error", "UNAUTHENTICATED", "invalid_request_error")


def test_gemini_takes_its_key_in_the_query(chat):
    """Gemini's key may be a query parameter."""
    asked = chat("gemini", "hi", stream=True)
    call = VENDORS["gemini"].parse(asked._replace(url=asked.url + "&key=k", headers={}).request())
    assert isinstance(call, EmulatedCall)
    assert call.stream


def test_claude_takes_its_key_as_a_bearer_token(chat):
    """Anthropic's key may come the way its SDK sends it."""
    headers = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
    assert isinstance(VENDORS["claude"].parse(chat("claude", "hi")._replace(headers=headers).request()), EmulatedCall)


def test_claude_wants_its_version(chat):
    """Without `anthropic-version` Anthropic answers 400."""
    status, content = refused("claude", chat("claude", "hi")._replace(headers={"x-api-key": "k"}).request())
    assert (status, kind_of("claude", content)) == (400, "invalid_request_error")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 3, "contents": 3}', b"\xff"])
def test_bad_json_is_400(chat, provider, body):
    """A body that is no JSON, or not the right shape, is a 400 in the vendor's format."""
    asked = chat(provider, "hi")
    status, content = refused(provider, HttpRequest.of("POST", asked.url, asked.headers.items(), body))
    assert status == 400
    kind_of(provider, content)


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ("openai", "model"),
        ("openai", "messages"),
        ("claude", "model"),
        ("claude", "messages"),
        ("claude", "max_tokens"),
        ("gemini", "contents"),
        ("local", "model"),
        ("local", "messages"),
    ],
)
def test_a_missing_field_is_400(chat, provider, field):
    """Each field that the vendor requires is required, and the message names it."""
    asked = chat(provider, "hi")
    body = {name: value for name, value in asked.body.items() if name != field}
    status, content = refused(provider, asked._replace(body=body).request())
    assert status == 400
    assert field in json.dumps(content)


@pytest.mark.parametrize("provider", KEYED)
def test_a_limit_below_one_is_400(chat, provider):
    """No cloud provider takes a limit of no tokens."""
    assert refused(provider, chat(provider, "hi", max_tokens=0).request())[0] == 400


@pytest.mark.parametrize("provider", PROVIDERS)
def test_unknown_paths_and_methods(chat, provider):
    """An unknown path is 404 and a wrong method 405, both in the vendor's format."""
    asked = chat(provider, "hi")
    for method, url, expected in (("POST", "/v1/nowhere", 404), ("GET", asked.url, 405)):
        status, content = refused(provider, HttpRequest.of(method, url, asked.headers.items(), b""))
        assert status == expected
        kind_of(provider, content)


@pytest.mark.parametrize(
    ("provider", "path", "name"),
    [
        ("openai", "/v1/models", "gpt-4o"),
        ("claude", "/v1/models", "claude-haiku"),
        ("gemini", "/v1beta/models", "models/gemini"),
        ("gemini", "/v1/models", "models/gemini"),
        ("local", "/api/tags", "llama3:8b"),
        ("local", "/api/version", "version"),
        ("local", "/", "running"),
    ],
)
def test_health_checks_are_answered(chat, provider, path, name):
    """What a health check of this vendor asks for is there, and needs the key like everything else."""
    reply = VENDORS[provider].parse(HttpRequest.of("GET", path, chat(provider, "").headers.items(), b""))
    assert isinstance(reply, Reply)
    assert reply.status == 200
    assert name in reply.body.decode()
    if provider != "local":
        assert refused(provider, HttpRequest.of("GET", path, (), b""))[0] == 401


@pytest.mark.parametrize(
    ("provider", "kinds"),
    [
        ("openai", {429: "requests", 500: "server_error", 503: "server_error", 418: "invalid_request_error"}),
        ("claude", {429: "rate_limit_error", 500: "api_error", 529: "overloaded_error", 403: "permission_error"}),
        ("gemini", {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}),
        ("local", {429: None, 500: None}),
    ],
)
def test_errors_have_the_vendors_names(provider, kinds):
    """Each status carries the vendor's own word for it."""
    for status, kind in kinds.items():
        reply = VENDORS[provider].error(status)
        assert (reply.status, kind_of(provider, json.loads(reply.body))) == (status, kind)


def test_gemini_tells_the_pause_in_its_details():
    """Google's clients read the pause from the error's details."""
    content = json.loads(VENDORS["gemini"].error(429, retry_after_s=1.5).body)
    assert content["error"]["details"][0]["retryDelay"] == "1.5s"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_calls_are_read_in_full(chat, provider):
    """Model, stream, limit, identity and size of the prompt come out of the vendor's own format."""
    call = VENDORS[provider].parse(chat(provider, "[sw:abc] " + "x" * 391, stream=True, max_tokens=9).request())
    assert isinstance(call, EmulatedCall)
    assert (call.provider, call.stream, call.max_tokens, call.request_id) == (provider, True, 9, "abc")
    assert call.model == ("gemini-2.5-flash" if provider == "gemini" else "a-model")
    assert call.prompt_tokens == 100


def test_identity_survives_what_routers_do_to_a_conversation():
    """The mark is found behind a system prompt, in parts, and before an appended request to go on."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "[sw:000007] hi"},
                {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}},
            ],
        },
        {"role": "assistant", "content": "gemini:000007:1/4 gemini:000007:2/4 "},
        {"role": "user", "content": "Continue exactly where you stopped."},
    ]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    request = HttpRequest.of("POST", "/v1/chat/completions", [("Authorization", "Bearer k")], body)
    call = VENDORS["openai"].parse(request)
    assert isinstance(call, EmulatedCall)
    assert call.request_id == "000007"
    assert call.prior_text.endswith(":2/4 ")


@pytest.mark.parametrize(
    ("turns", "word"),
    [
        ([("user", "hi"), ("assistant", "so ")], "trailing whitespace"),
        ([("user", "hi"), ("assistant", " "), ("user", "go on")], "non-whitespace"),
        ([("user", "hi"), ("assistant", ""), ("user", "go on")], "non-empty"),
        ([("system", "be brief"), ("user", "hi")], "role"),
        ([("user", "hi"), ("assistant", "so "), ("user", "go on")], None),
        ([("user", "hi"), ("assistant", "so")], None),
        ([("user", "hi"), ("assistant", "")], None),
    ],
)
def test_claude_refuses_the_conversations_that_anthropic_refuses(chat, turns, word):
    """Blank turns, a final one of the assistant's that ends in a space, and foreign roles are 400."""
    asked = chat("claude", "hi")
    messages = [{"role": role, "content": text} for role, text in turns]
    request = asked._replace(body={**asked.body, "messages": messages}).request()
    if word is None:
        assert isinstance(VENDORS["claude"].parse(request), EmulatedCall)
        return
    status, content = refused("claude", request)
    assert (status, kind_of("claude", content)) == (400, "invalid_request_error")
    assert word in content["error"]["message"]


@pytest.mark.parametrize(
    ("contents", "word"),
    [
        ([{"role": "assistant", "parts": [{"text": "hi"}]}], "role"),
        ([{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": []}], "contents[1]"),
        ([{"role": "user", "parts": [{"text": ""}]}], "contents[0]"),
    ],
)
def test_gemini_refuses_the_conversations_that_google_refuses(chat, contents, word):
    """Turns without text and foreign roles are 400."""
    asked = chat("gemini", "hi")
    status, content = refused("gemini", asked._replace(body={"contents": contents}).request())
    assert (status, kind_of("gemini", content)) == (400, "INVALID_ARGUMENT")
    assert word in content["error"]["message"]
