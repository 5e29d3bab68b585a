"""Who may speak to the control API, and what is refused of a fault by hand."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from seawall.control.access import Access, Denied, write_token
from seawall.control.byhand import Refused, fault_by_hand
from seawall.control.revised import by_hand
from seawall.control.timeline import Timeline

ACCESS = Access(4321)
HOST = {"host": "127.0.0.1:4321"}
TOKEN = {"x-seawall-token": ACCESS.token}
COOKIE = {"cookie": f"{ACCESS.cookie}={ACCESS.token}"}
DOWN = {"target": "gemini", "duration": "5s", "toxic": {"type": "down"}}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", HOST | TOKEN, None),
        ("GET", {"host": "localhost:4321"} | COOKIE, None),
        ("POST", HOST | {"authorization": f"Bearer {ACCESS.token}"}, None),
        ("POST", HOST | COOKIE | {"origin": "http://127.0.0.1:4321"}, None),
        ("GET", HOST, 401),
        ("GET", HOST | {"x-seawall-token": ACCESS.token[:-1]}, 401),
        ("GET", HOST | {"x-seawall-token": "ü"}, 401),
        ("GET", HOST | {"cookie": f"{ACCESS.cookie}=no"}, 401),
        ("POST", HOST | COOKIE, 403),
        ("POST", HOST | COOKIE | {"origin": "http://evil.example"}, 403),
        ("POST", HOST | COOKIE | {"origin": "null"}, 403),
        ("GET", HOST | TOKEN | {"origin": "http://127.0.0.1:80"}, 403),
        ("GET", HOST | COOKIE | {"sec-fetch-site": "cross-site"}, 403),
        ("GET", {"host": "rebound.example:4321"} | TOKEN, 421),
        ("GET", {"host": "127.0.0.1"} | TOKEN, 421),
        ("GET", TOKEN, 421),
    ],
)
def test_only_the_token_from_the_right_page_is_let_in(method: str, headers: dict[str, str], status: int | None) -> None:
    """The token is asked for in header or cookie, the host's name is loopback's, and no foreign page is let in."""
    if status is None:
        ACCESS.require(method, headers)
        return
    with pytest.raises(Denied) as denied:
        ACCESS.require(method, headers)
    assert denied.value.status == status
    assert ACCESS.token not in str(denied.value)


def test_the_token_lies_in_a_file_of_its_users_own(tmp_path: Path) -> None:
    """The file is new and only its user can read it; a file that is there already is not taken over."""
    path = tmp_path / "token"
    write_token(path, ACCESS.token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_token(path, "another")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"target": "gemni"}, "target", "gemini"),
        ({"duration": None}, "duration", "duration"),
        ({"duration": "5"}, "duration", "unit"),
        ({"duration": "25h"}, "duration", "24h"),
        ({"toxic": {"type": "latency", "attributes": {"latncy": 5}}}, "toxic.attributes.latncy", "latency"),
        ({"at": "3s"}, "at", "take it out"),
        ({"every": "9s"}, "every", "take it out"),
        ({"respond": {"status": 500}}, "respond", "exactly one"),
        ({"id": "used"}, "id", "another id"),
        ({"id": "Not An Id"}, "id", "a to z"),
        ({"toxik": 1}, "toxik", "toxic"),
        ({"clock_skew": "5s", "toxic": None, "target": "gateway"}, "", "wire"),
    ],
)
def test_a_bad_fault_is_told_by_field_and_fix(change: dict[str, object], field: str, words: str) -> None:
    """What a scenario would refuse is refused here, naming the field and how to mend it."""
    body = {key: value for key, value in (DOWN | change).items() if value is not None}
    with pytest.raises(Refused) as refused:
        fault_by_hand(body, by_hand(), now_s=2.0, taken={"used"})
    told = [f"{flaw.field}|{flaw.message}; {flaw.fix}" for flaw in refused.value.flaws]
    assert any(words in each and (not field or each.split("|")[0] in (field, "fault")) for each in told), told


def test_a_good_fault_gets_a_name_and_its_time() -> None:
    """A fault without an id gets one that is free, and starts now."""
    spec = fault_by_hand(DOWN, by_hand(), now_s=2.5, taken={"hand_1"})
    assert (spec.id, spec.at, spec.duration, spec.target) == ("hand_2", 2.5, 5.0, "gemini")


def test_the_timeline_counts_by_the_second_and_tells_what_is_new() -> None:
    """Each second is told once, in order, gaps too; marks keep their place; what is no event is passed over."""
    line = '{"kind":"request","mono_ns":%d,"outcome":"%s","provider":"gemini","intended_ns":%d,"end_ns":%d}'
    timeline = Timeline(("gemini",))
    timeline.t0_ns = 0
    for at_ns, outcome in ((200_000_000, "whole"), (900_000_000, "refused"), (2_500_000_000, "cut")):
        timeline.take((line % (at_ns, outcome, at_ns - 100_000_000, at_ns)).encode())
    timeline.take(b"{ no event")
    timeline.take(b'{"kind":"breaker","mono_ns":2600000000,"provider":"gemini","worker":"w","to":"open","cause":"x"}')
    timeline.settle(4_100_000_000)
    entries = timeline.since(0)["entries"]
    seconds = [entry for entry in entries if entry["kind"] == "second"]
    assert [(s["at_s"], s["whole"], s["refused"], s["failed"]) for s in seconds] == [
        (0, 1, 1, 0),
        (1, 0, 0, 0),
        (2, 0, 0, 1),
    ]
    assert timeline.since(4)["entries"] == []
    assert timeline.since(0)["next"] == 4
    assert timeline.rows()[0]["breaker"] == "open"
