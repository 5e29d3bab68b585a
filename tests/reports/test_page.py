"""The page: self-contained, safe, well-formed, readable in both themes, whatever the journal holds."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import pytest

from reports.page import run_page
from seawall.verdicts.model import Verdict

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&\x00\x1b]]>"
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut": {"cut": 9},
    "killed": {"killed": True},
    "unmet": {"unmet": True},
    "no faults": {"spells": []},
    "no requests": {"requests": 0, "spells": []},
    "one request": {"requests": 1, "duration_s": 1.0, "spells": []},
    "two workers of nobody": {"observes": []},
    "hostile": {"hostile": HOSTILE, "title": HOSTILE, "scenario": HOSTILE, "scenario_name": HOSTILE, "cut": 3},
    "all dark": {
        "spells": [
            {"id": f"dark_{target}", "at_s": 20.0, "duration_s": 12.0, "target": target}
            for target in ("gemini", "claude", "openai", "local")
        ]
    },
}


@pytest.fixture(params=sorted(SHAPES))
def page(request: pytest.FixtureRequest, make_view: Any, make_verdict: Any, parse_page: Any) -> Any:
    """A page of each shape of run."""
    verdict = make_verdict("fail", "partial", "pass", text=HOSTILE if request.param == "hostile" else "")
    return parse_page(run_page(make_view(verdict, **SHAPES[request.param])))


def test_a_page_is_well_formed(page: Any) -> None:
    """Every tag is closed in order, and no id occurs twice."""
    assert page.problems == []
    assert sorted(set(page.ids)) == sorted(page.ids)


def test_every_drawing_is_xml_with_a_name(page: Any) -> None:
    """Every SVG parses as XML; every chart has a title and a description that its label names."""
    for source in page.svgs:
        drawing = ElementTree.fromstring(source)  # noqa: S314 - our own drawing
        if drawing.get("class") == "chart":
            names = {element.get("id") for element in drawing if element.tag in {"title", "desc"}}
            assert set(drawing.get("aria-labelledby", "").split()) == names
            assert all(element.text for element in drawing if element.tag in {"title", "desc"})


def test_references_within_the_page_lead_somewhere(page: Any) -> None:
    """Every link, symbol, label and label reference names an element of the page; nothing names another file."""
    for tag, values in page.tags:
        for name in ("href", "src", "xlink:href"):
            target = values.get(name) or ""
            if target:
                assert target == "data:," or target[1:] in page.ids, (tag, target)
        for name in ("aria-labelledby", "for"):
            assert set((values.get(name) or "").split()) <= set(page.ids)


def test_the_policy_names_just_what_is_in_the_page(page: Any) -> None:
    """The hashes of the policy are those of the style sheet and the script; no inline style or handler needs more."""
    metas = [values for tag, values in page.tags if tag == "meta" and "http-equiv" in values]
    policy = dict(part.strip().split(" ", 1) for part in str(metas[0]["content"]).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
        assert policy.get(directive, "") == " ".join(f"'sha256-{value}'" for value in hashes)
    for _, values in page.tags:
        assert not [name for name in values if name == "style" or name.startswith("on")]


def test_foreign_words_never_become_markup(make_view: Any, make_verdict: Any, parse_page: Any) -> None:
    """What a journal says is shown as it is, and no tag, handler or control character of it reaches the browser."""
    shape = SHAPES["hostile"]
    page = parse_page(run_page(make_view(make_verdict("fail", text=HOSTILE), **shape)))
    assert "<img" not in page.html
    assert not set(page.html) & {"\x00", "\x1b"}
    assert page.html.count("</script>") == 1
    shown = html.escape("</script><img src=x onerror=alert(1)>", quote=False)
    assert page.html.count(shown.replace("'", "&#39;")) > 10
    assert "onerror=alert(1)" in page.text


def test_a_run_of_1200_requests_fits_in_250_kilobytes(make_view: Any, make_verdict: Any) -> None:
    """A page stays small, in its largest shape too: everything dark, so that every story has four attempts."""
    for name in ("plain", "all dark"):
        assert len(run_page(make_view(make_verdict("fail"), name=name.replace(" ", "-"), **SHAPES[name]))) < 250_000


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_is_a_word_a_colour_and_a_shape(
    verdict: Verdict, make_view: Any, make_verdict: Any, parse_page: Any
) -> None:
    """Each verdict is written out, has its own class and its own symbol, with the reason and the replay command."""
    page = parse_page(run_page(make_view(make_verdict(str(verdict)))))
    assert f'<section class="verdict v-{verdict}"' in page.html
    assert f'<p class="word"><b>{verdict}</b>' in page.html
    assert page.html.count(f'href="#i-{verdict}"') >= 2
    assert "Why." in page.text
    assert "seawall run gemini-dark --seed 7" in page.text
    assert ("First seen 10.000 s, request 000200: evidence 0" in page.text) is (verdict is not Verdict.PASS)


def test_missed_checks_come_first_and_open(make_view: Any, make_verdict: Any) -> None:
    """Whatever their order in the verdict, the worst checks stand first and unfolded, those that held stay folded."""
    content = run_page(make_view(make_verdict("pass", "partial", "invalid", "fail", "safe"))).decode()
    table = content[content.index('id="h-checks"') : content.index('id="time"')]
    assert re.findall(r'class="badge v-(\w+)"', table) == ["fail", "invalid", "safe", "partial", "pass"]
    assert [bool(mark) for mark in re.findall(r"<details( open)?>", table)] == [True, True, True, True, False]


def test_a_killed_run_says_so_at_the_top(make_view: Any, make_verdict: Any, parse_page: Any) -> None:
    """A journal without an end is rendered, and the first thing in it is that the run was killed."""
    page = parse_page(run_page(make_view(make_verdict("invalid"), killed=True)))
    assert page.text.index("This run was killed") < page.text.index("Reason 0.")


def test_undo_that_was_not_verified_is_said_at_the_top(make_view: Any, make_verdict: Any, parse_page: Any) -> None:
    """The second axis is never hidden behind a good verdict."""
    verdict = make_verdict("pass")
    page = parse_page(run_page(make_view(type(verdict)(**{**_fields(verdict), "undone": False}))))
    assert page.text.index("Not every fault was verified undone") < page.text.index("Everything that must hold did")


def _fields(verdict: Any) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in verdict.__struct_fields__}


def test_words_have_contrast_in_both_themes() -> None:
    """Every colour of text has at least 4.5 to 1 on the grounds that it stands on, in the light and the dark theme."""
    style = resources.files("reports").joinpath("templates", "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in _themes(style))
    for theme in (light, {**light, **dark}):
        pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("paper", "sheet", "plot")]
        pairs += [(verdict, ground) for verdict in Verdict for ground in ("paper", "sheet")]
        pairs += [("closed-ink", "closed"), ("open-ink", "open"), ("half-ink", "half")]
        for ink, ground in pairs:
            assert _contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground, theme[ink], theme[ground])
        for mark in ("gemini", "claude", "openai", "local", "failed", "refused", "fault"):
            assert _contrast(theme[mark], theme["plot"]) >= 3, (mark, theme[mark])


def _themes(style: str) -> tuple[str, str]:
    start = style.index("@media screen and (prefers-color-scheme: dark)")
    return style[:start], style[start : style.index("* { box-sizing")]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_script_is_small() -> None:
    """The script, which every page carries, stays under 12 KB."""
    assert len(resources.files("reports").joinpath("templates", "script.js").read_bytes()) < 12_000
