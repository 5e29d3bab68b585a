"""JUnit XML and Markdown: what a CI server and a pull request show is what was judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import JUnitXml

from reports.junit import junit_of, to_bytes
from reports.summary import markdown, summary_of

HOSTILE = "</system-out><script>|`*_[x](http://x)\x00\x1b]]>"


def test_counts_are_those_of_the_checks(make_verdict: Any) -> None:
    """fail is a failure, invalid an error, a missed advisory limit is skipped, safe and pass pass."""
    verdict = make_verdict("fail", "fail", "invalid", "partial", "safe", "pass")
    xml = JUnitXml.fromstring(to_bytes(junit_of("dark", verdict)))
    assert (xml.tests, xml.failures, xml.errors, xml.skipped) == (6, 2, 1, 1)
    assert [suite.name for suite in xml] == ["dark: invariant", "dark: threshold"]
    failure = next(case for suite in xml for case in suite if case.name.startswith("check 0")).result[0]
    assert "Reason 0." in failure.message
    assert "at 10.000 s request 000200: evidence 0" in str(failure.text)


def test_foreign_words_keep_the_xml_whole(make_verdict: Any) -> None:
    """Markup and control characters in names and reasons change neither structure nor counts."""
    verdict = make_verdict("fail", "invalid", "partial", "pass", text=HOSTILE)
    xml = JUnitXml.fromstring(to_bytes(junit_of(HOSTILE, verdict, [(HOSTILE, HOSTILE)])))
    assert (xml.tests, xml.failures, xml.errors, xml.skipped) == (4, 1, 1, 1)


@pytest.mark.parametrize("word", ["fail", "invalid"])
def test_a_bad_run_is_never_green(word: str, make_verdict: Any) -> None:
    """A run that is worse than each of its checks still makes CI fail."""
    xml = JUnitXml.fromstring(to_bytes(junit_of("dark", make_verdict("pass", run=word))))
    assert xml.tests == 2
    assert {xml.failures, xml.errors} == {0, 1}


def test_a_verdict_without_checks_is_a_valid_document(make_verdict: Any) -> None:
    """Nothing judged gives a document without cases."""
    assert JUnitXml.fromstring(to_bytes(junit_of("dark", make_verdict()))).tests == 0


def test_the_summary_says_what_why_and_how_to_see_it_again(make_view: Any, make_verdict: Any) -> None:
    """The verdict, its reason, the missed checks and the replay command are in it; checks that held are counted."""
    text = summary_of(make_view(make_verdict("fail", "pass", "pass")))
    assert text.startswith("## 🛑 fail: Gemini goes dark")
    assert "Why." in text
    assert "| fail | check 0" in text
    assert "check 1" not in text
    assert "2 of 3 checks held. Every fault was verified undone." in text
    assert "```sh\nseawall run gemini-dark --seed 7\n```" in text


def test_foreign_words_stay_one_cell_of_plain_words(make_view: Callable[..., Any], make_verdict: Any) -> None:
    """No pipe, tag, link or line break of a journal changes the tables of the summary."""
    lines = summary_of(make_view(make_verdict("fail", text=HOSTILE + "\n| x |"), title=HOSTILE)).splitlines()
    table = [line for line in lines if line.startswith("| fail")]
    assert len(table) == 1
    assert table[0].replace("\\|", "").count("|") == 6
    assert not [line for line in lines if "<script>" in line.replace("\\<", "")]


@given(st.text())
def test_escaped_markdown_has_no_bare_markup(text: str) -> None:
    """Every character that Markdown reads as markup has a backslash before it, and the result is one line."""
    kept = markdown(text)
    assert "\n" not in kept
    position = 0
    while position < len(kept):
        if kept[position] == "\\":
            position += 2
            continue
        assert kept[position] not in "`*_{}[]<>|#~"
        position += 1
