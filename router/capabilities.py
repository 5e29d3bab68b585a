"""
What each provider can do of what a request asks, and how it is said to that provider. Pure; the table is a data file.

What nobody needs to hear (a seed, an image's detail) is left out for a provider that does not know it. What changes the
answer is not: a provider that cannot do it is skipped, as `unsupported`, before any call. One thing is between the two:
a model that samples in its own way is asked without `temperature`, `top_p` and `top_k` (see `left_out`).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Collection

import msgspec

from router.catalogue import lacks_of
from router.data import data_file
from router.models import Asked, JsonFormat, ModelType, NamedTool

__all__ = ["CAPABILITIES", "DROPPED", "Capability", "image_type", "lacking", "left_out", "needs_of"]

DROPPED = "left out"
"""The provider is asked without it: the answer is as good."""


class Capability(msgspec.Struct, frozen=True):
    """One thing that a request may ask: in words, and the field that says it to each provider; None: it cannot."""

    words: str
    gemini: str | None
    claude: str | None
    openai: str | None
    local: str | None

    def at(self, provider: ModelType) -> str | None:
        """Return the field that says it to `provider`, DROPPED, or None when that provider cannot do it."""
        found: str | None = getattr(self, provider.value)
        return found


CAPABILITIES = data_file("capabilities", dict[str, Capability])
"""What can be asked, by name. The names are those of `lacks` in the models' data file."""

_PLAIN: frozenset[str] = frozenset()
_SAMPLING = ("temperature", "top_p", "top_k")
_OF_SAMPLING = frozenset({"temperature_above_1", "temperature_and_top_p", "top_k"})


def needs_of(asked: Asked) -> frozenset[str]:
    """Return the names of what a request needs and not everybody can do; nothing, quickly, for plain text."""
    needs: set[str] = set()
    if not (asked.temperature is asked.top_p is asked.top_k is None) or asked.stop:
        needs |= _of_sampling(asked)
    if asked.presence_penalty or asked.frequency_penalty:
        needs.add("penalties")
    if asked.tools:
        needs |= _of_tools(asked)
    if asked.json_format is not None:
        needs |= _of_json(asked, asked.json_format)
    for message in asked.messages:
        if not isinstance(message.content, str):
            for image in message.images:
                needs |= {"image_data"} if image.inline else _of_url(image.url)
    return frozenset(needs) if needs else _PLAIN


def lacking(provider: ModelType, model: str, needs: Collection[str]) -> tuple[str, ...]:
    """Return, in words and sorted, what of `needs` this model of this provider cannot do."""
    unable = lacks_of(provider, model)
    found = {need for need in needs if need in unable or CAPABILITIES[need].at(provider) is None}
    found -= _OF_SAMPLING if "temperature" in unable else _PLAIN  # see left_out
    return tuple(sorted(CAPABILITIES[need].words for need in found))


def left_out(provider: ModelType, model: str, asked: Asked) -> tuple[str, ...]:
    """
    Return the sampling parameters of `asked` that this model of this provider is asked without.

    Most models of 2026 refuse or ignore them. To skip their providers would leave hardly anybody to fail over to, and
    would hand a request to another vendor than the one that was named; so they are asked, and the caller is told.
    """
    if asked.temperature is asked.top_p is asked.top_k is None:
        return ()
    unable = lacks_of(provider, model)
    return tuple(name for name in _SAMPLING if name in unable and getattr(asked, name) is not None)


def image_type(url: str) -> str | None:
    """Return the media type that the end of an image's URL tells, or None."""
    kind, _ = mimetypes.guess_type(url.partition("?")[0].partition("#")[0])
    return kind if kind is not None and kind.startswith("image/") else None


def _of_sampling(asked: Asked) -> set[str]:
    return _wanted(
        temperature_above_1=asked.temperature is not None and asked.temperature > 1,
        temperature_and_top_p=asked.temperature is not None and asked.top_p is not None and asked.top_p < 1,
        top_k=asked.top_k is not None,
        stop_blank=any(not stop.strip() for stop in asked.stop),
        stop_5=len(asked.stop) > 4,
        stop_6=len(asked.stop) > 5,
    )


def _of_tools(asked: Asked) -> set[str]:
    must = asked.tool_choice == "required" or isinstance(asked.tool_choice, NamedTool)
    one = asked.parallel_tool_calls is False
    return _wanted(tools=True, tool_required=must, one_tool_call=one, json_and_tools=asked.json_format is not None)


def _wanted(**needs: bool) -> set[str]:
    return {name for name, is_wanted in needs.items() if is_wanted}


def _of_json(asked: Asked, form: JsonFormat) -> set[str]:
    if form.schema is not None:
        return {"json_schema"}
    said = any("json" in message.text.lower() for message in asked.messages)
    return {"json_object"} if said else {"json_object", "json_unsaid"}


def _of_url(url: str) -> set[str]:
    return {"image_url"} if image_type(url) else {"image_url", "image_url_bare"}
