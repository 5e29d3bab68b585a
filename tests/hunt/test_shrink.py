"""The last pass of the shrinking: as small as can be, and never another find."""

from __future__ import annotations

from typing import Any

from seawall.hunt.document import Document, Unusable, arrivals_of, blank, requests_in, scenario_of, with_arrivals
from seawall.hunt.shrink import shrink


def schedule() -> Document:
    """A schedule with three faults, forty requests, and settings of no account."""
    document = with_arrivals(blank(), [(0.13 * n, n % 3 == 0) for n in range(100)])
    document["seed"] = 5
    document["system"]["workers"] = 2
    document["system"]["settings"] |= {"MIDSTREAM": "error", "ATTEMPTS_MAX": 4}
    document["load"]["model"] = "openai"
    document["faults"] = [
        {"id": "f1", "at": "1s", "duration": "3s", "target": "gemini", "respond": {"status": 429}},
        {"id": "f2", "follows": "f1", "delay": "1s", "duration": "2s", "target": "claude", "toxic": {"type": "down"}},
        {"id": "f3", "follows": "f2", "duration": "2s", "target": "local", "respond": {"hang": True}},
    ]
    return document


def can_be_loaded(document: Document) -> bool:
    """Whether the loader takes it."""
    try:
        scenario_of(document)
    except Unusable:
        return False
    return True


def test_everything_that_does_not_matter_goes() -> None:
    """Where any schedule fails, one request is left, and nothing else."""
    small = shrink(schedule(), can_be_loaded)
    assert (small["faults"], requests_in(small), small["seed"]) == ([], 1, 1)
    assert small["load"].keys() == {"executor", "arrivals"}
    assert small["system"] == {"settings": {"TOTAL_TIMEOUT": "20s"}}


def test_what_matters_stays() -> None:
    """Of what the find needs nothing is lost: here one fault, two streams and a setting."""

    def fails(document: Document) -> bool:
        faults: list[Any] = document["faults"]
        return (
            can_be_loaded(document)
            and any(fault["target"] == "local" for fault in faults)
            and sum(stream for _, stream in arrivals_of(document)) >= 2
            and document["system"]["settings"].get("MIDSTREAM") == "error"
        )

    small = shrink(schedule(), fails)
    assert fails(small)
    assert ([fault["target"] for fault in small["faults"]], requests_in(small)) == (["local"], 2)
    assert small["system"]["settings"] == {"TOTAL_TIMEOUT": "20s", "MIDSTREAM": "error"}


def test_a_fault_stands_where_it_stood_when_the_one_before_it_goes() -> None:
    """`follows` becomes the time that it meant."""
    small = shrink(
        schedule(),
        lambda d: can_be_loaded(d) and [f["id"] for f in d["faults"]][-1:] == ["f3"] and requests_in(d) > 60,
    )
    assert [fault.get("follows") for fault in small["faults"]] == [None]


def test_shrinking_ends_when_nothing_is_left_to_try() -> None:
    """A schedule of which no part can go is given back as it was."""
    document = schedule()
    assert shrink(document, lambda other: other == document) == document
