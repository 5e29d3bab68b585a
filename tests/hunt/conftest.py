"""Planted bugs that the tests hunt for: each changes a module of the router for one test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from router.breaker import Breaker, BreakerState

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)


@pytest.fixture
def open_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no open breaker be probed again, as one did that kept traffic away for six days."""
    monkeypatch.setattr(Breaker, "allows", lambda self, now_s: self.state is BreakerState.CLOSED)
