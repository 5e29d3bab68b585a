"""
Prompts that carry their identity, and answers whose text is known beforehand.

Every prompt begins with `[sw:000123] `, so that a request can be followed through gateways that drop headers. Every
emulated answer to it is the tokens `gemini:000123:1/16 gemini:000123:2/16 …`: whether a text is whole, cut, repeated or
mixed can be decided from the text alone, and so can who wrote which part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

__all__ = ["Judgement", "answer_tokens", "judge_text", "last_token", "marked", "request_id_of"]

_MARK = re.compile(r"\[sw:([A-Za-z0-9_-]{1,32})\] ")
_TOKEN = re.compile(r"([a-z]{1,16}):([A-Za-z0-9_-]{1,32}):(\d{1,7})/(\d{1,7}) ")


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a received text turned out to be."""

    whole: bool
    tokens: int
    """How many tokens were there."""
    providers: tuple[str, ...]
    """Who wrote them, in order of first appearance."""
    problem: str | None
    """Why it is not whole: `empty`, `foreign_text`, `other_request`, `repeated`, `gap`, `cut`; else None."""


def marked(request_id: str, prompt: str) -> str:
    """Return `prompt` with the identity in front."""
    return f"[sw:{request_id}] {prompt}"


def request_id_of(prompt: str) -> str | None:
    """Return the identity that a prompt carries anywhere in it, or None."""
    found = _MARK.search(prompt)
    return found.group(1) if found else None


def answer_tokens(provider: str, request_id: str, count: int, first: int = 1) -> list[str]:
    """Return tokens `first` to `count` of the answer that `provider` gives to this request; each ends in a space."""
    return [f"{provider}:{request_id}:{n}/{count} " for n in range(first, count + 1)]


def last_token(text: str, request_id: str) -> tuple[int, int] | None:
    """Return (n, count) of the last whole token of this request in `text`, or None: where to continue from."""
    found = [(int(m.group(3)), int(m.group(4))) for m in _TOKEN.finditer(text) if m.group(2) == request_id]
    return found[-1] if found else None


def judge_text(text: str, request_id: str) -> Judgement:
    """Judge the text that a client received for `request_id`. A missing space at the very end is forgiven."""
    padded = text if text.endswith(" ") else text + " "
    if (at_once := _plainly_whole(padded, request_id)) is not None:
        return at_once
    matches = list(_TOKEN.finditer(padded))
    providers = tuple(dict.fromkeys(m.group(1) for m in matches))
    problem = _problem(padded, matches, request_id)
    return Judgement(whole=problem is None, tokens=len(matches), providers=providers, problem=problem)


def _plainly_whole(text: str, request_id: str) -> Judgement | None:
    """Judge what is exactly one provider's whole answer, as most texts are; None for all else, which takes a look."""
    last = _TOKEN.fullmatch(text, text.rfind(" ", 0, -1) + 1)
    if last is None or last[3] != last[4]:
        return None
    provider, count = last[1], int(last[4])
    # Most of a text that is not so long cannot be equal: so a number that somebody made up costs nothing.
    if count > len(text) or text != "".join(answer_tokens(provider, request_id, count)):
        return None
    return Judgement(whole=True, tokens=count, providers=(provider,), problem=None)


def _problem(text: str, matches: Sequence[re.Match[str]], request_id: str) -> str | None:
    if not text.strip():
        return "empty"
    if not matches or sum(len(m.group(0)) for m in matches) != len(text):
        return "foreign_text"
    if any(m.group(2) != request_id for m in matches):
        return "other_request"
    numbers = [int(m.group(3)) for m in matches]
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            return "repeated" if number < expected else "gap"
    return None if numbers[-1] == int(matches[-1].group(4)) else "cut"
