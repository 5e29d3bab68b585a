"""Workers that share their breakers (BREAKER_STORE=redis): what one is told by another needs no call of its own."""

from __future__ import annotations

import pytest
from journal_builder import WORKER, healthy, ns
from verdict_judging import check

from seawall.journal.events import Attempt, BreakerChange
from seawall.verdicts.model import Verdict

OTHER = "gateway-200"
STEPS = (("closed", "open", 10.0), ("open", "half_open", 11.0), ("half_open", "closed", 11.0))


@pytest.mark.parametrize(("cause", "verdict"), [(f"told by {WORKER}: x", Verdict.PASS), ("x", Verdict.FAIL)])
@pytest.mark.parametrize("name", ["only a probe closes a breaker", "only failures of the provider open a breaker"])
def test_told_transitions_need_no_call(name: str, cause: str, verdict: Verdict) -> None:
    """A worker that never failed and never probed may open and close when it was told, and for no other reason."""
    run = healthy()
    attempt = run.of(Attempt, provider="gemini", outcome="ok")[0]
    run.add(run.time_of(attempt), OTHER, Attempt(**{f: getattr(attempt, f) for f in attempt.__struct_fields__}))
    run.of(Attempt)[-1].worker = OTHER
    for generation, (state, to, at_s) in enumerate(STEPS, 1):
        change = BreakerChange(
            worker=OTHER, provider="gemini", from_state=state, to=to, generation=generation, cause=cause
        )
        run.add(ns(at_s) + generation, OTHER, change)
    assert check(run, name).verdict is verdict
