"""The tree of errors: each can be told apart by machines, and the picture of it is true."""

from __future__ import annotations

import inspect
import re
from itertools import pairwise

import pytest

import router
from router import errors
from router.errors import AllCloudsDownError, ProviderError, SeawallError, TransportError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


def _picture() -> list[tuple[int, str]]:
    """Return (depth, name) of every line of the tree in the module's docstring."""
    found: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^ {4}((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+)(?: |$)", line)
        if match:
            found.append((len(match.group(1)) // 4, match.group(2)))
    return found


def test_picture_names_every_class_once_under_its_parent() -> None:
    """The tree in the docstring is the tree of the classes."""
    picture = _picture()
    assert sorted(name for _, name in picture) == sorted(cls.__name__ for cls in CLASSES)
    path: list[str] = []
    drawn: dict[str, str | None] = {}
    for depth, name in picture:
        path = [*path[:depth], name]
        drawn[name] = path[-2] if depth else None
    real = {cls.__name__: next((base.__name__ for base in cls.__bases__ if base in CLASSES), None) for cls in CLASSES}
    # An overload may ask for a pause as a throttle does; in the picture it is a kind of its own.
    assert real.pop("ProviderOverloaded") == "RateLimited"
    assert drawn.pop("ProviderOverloaded") == "ProviderError"
    assert drawn == real
    assert all(after - before <= 1 for (before, _), (after, _) in pairwise(picture))


def test_all_names_every_class() -> None:
    """`__all__` is sorted and complete, and what the package exports comes from there."""
    assert errors.__all__ == sorted(cls.__name__ for cls in CLASSES)
    exported = {name for name in router.__all__ if inspect.isclass(getattr(router, name))}
    assert {name for name in exported if issubclass(getattr(router, name), Exception)} <= set(errors.__all__)


def test_package_exports_what_it_says() -> None:
    """Every name of `router.__all__` is there, sorted as the house rules say."""
    assert all(hasattr(router, name) for name in router.__all__)
    assert router.__all__ == sorted(set(router.__all__), key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_tells_code_status_and_retryable(cls: type[SeawallError]) -> None:
    """An error has a code in snake case, an HTTP status of an error, whether to retry, and one docstring."""
    assert issubclass(cls, SeawallError)
    error = cls("words")
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    assert 400 <= error.status <= 599
    assert isinstance(error.retryable, bool)
    assert "words" in str(error)
    assert "__doc__" in vars(cls)
    assert cls.__doc__


def test_codes_are_unique() -> None:
    """No two classes share a code: a machine can tell them apart."""
    codes = [cls.code for cls in CLASSES]
    assert len(codes) == len(set(codes))


def test_everybody_down_is_a_system_error_with_the_promised_words() -> None:
    """Who catches SystemError, or looks for "All Clouds Down", finds it."""
    error = AllCloudsDownError("gemini reset", retry_after_s=3.0)
    assert isinstance(error, SystemError)
    assert str(error) == "All Clouds Down: gemini reset"
    assert (error.attempts, error.retry_after_s, error.status) == ((), 3.0, 503)


def test_only_a_connection_that_was_never_made_has_sent_nothing() -> None:
    """`sent` is False for a failed connect or handshake, and for nothing else."""
    unsent = {cls.__name__ for cls in CLASSES if issubclass(cls, TransportError) and not cls.sent}
    assert unsent == {"ConnectFailed", "TlsError"}


def test_only_our_own_settings_do_not_count_against_a_provider() -> None:
    """A refused key, an unknown model and what a model cannot do say nothing about a provider's health."""
    uncounted = {cls.__name__ for cls in CLASSES if issubclass(cls, ProviderError) and not cls.counts}
    assert uncounted == {"AuthenticationFailed", "ModelNotFound", "Unsupported"}
