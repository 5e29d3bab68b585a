"""The pages in a real browser: every interaction works, nobody is shut out, nothing overflows, nothing leaves."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.real

WIDTHS = (1440, 768, 390)
OpenPage = Callable[..., Page]


LOOKS = [("run", "light", 1440), ("run", "dark", 390), ("hostile", "light", 390), ("suite", "dark", 1440)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "scheme", "width"), [*LOOKS, ("suite", "light", 390), ("compare", "dark", 390)])
def test_axe_finds_nothing_serious(name: str, scheme: str, width: int, open_page: OpenPage) -> None:
    """axe-core finds no serious or critical violation, in either theme, wide and narrow, with everything unfolded."""
    page = open_page(name, scheme=scheme, width=width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = Axe().run(page).response
    assert len(found["passes"]) > 15  # it did look
    bad = [each for each in found["violations"] if each["impact"] in {"serious", "critical"}]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in bad] == []


@pytest.mark.parametrize("name", ["run", "hostile", "suite", "compare"])
def test_nothing_overflows_at_any_width(name: str, open_page: OpenPage) -> None:
    """The page is never wider than the window, with everything folded and unfolded; boxes scroll within themselves."""
    page = open_page(name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for is_open in ("true", "false"):
            page.evaluate(f"document.querySelectorAll('.more').forEach((each) => {{ each.open = {is_open}; }})")
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_first_screen_answers_whether_and_why(open_page: OpenPage) -> None:
    """Without scrolling one sees the verdict, the reason, the replay command and the first of what had to hold."""
    page = open_page("run")
    for what in (".verdict .word", ".verdict .why", ".replay code", ".checks tbody tr:first-child .badge"):
        box = page.locator(what).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, what
    assert page.locator(".verdict .word b").inner_text().lower() == "fail"


def test_the_theme_follows_the_system_and_can_be_switched(open_page: OpenPage) -> None:
    """It begins as the system has it, and one press turns it and the colours of the browser's own parts."""
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page("run"), open_page("run", scheme="dark")
    colours = light.evaluate(paper), dark.evaluate(paper)
    assert colours[0] != colours[1]
    for page, other in ((light, colours[1]), (dark, colours[0])):
        page.get_by_role("button", name=re.compile("theme")).click()
        assert page.evaluate(paper) == other
        page.get_by_role("button", name=re.compile("theme")).click()
        assert page.evaluate(paper) != other


def test_a_fault_shows_only_its_requests(open_page: OpenPage) -> None:
    """A click on a fault's bar filters the table, zooms all charts to it and says so; another one takes it back."""
    page = open_page("run")
    rows, band = page.locator(".stories tbody tr"), page.locator('.band[data-fault="cut"]')
    everything = rows.count()
    whole = page.locator("#c-rate .zoom").get_attribute("viewBox")
    band.click()
    shown = page.locator(".stories tbody tr:visible")
    assert 0 < shown.count() < everything
    assert all("cut" in faults.split() for faults in shown.evaluate_all("rows => rows.map(r => r.dataset.faults)"))
    expect(page.locator("#chosen")).to_have_text("Only requests under way during cut.")
    boxes = page.locator(".zoom").evaluate_all("all => all.map(each => each.getAttribute('viewBox').split(' ')[0])")
    assert len(set(boxes)) == 1
    assert page.locator("#c-rate .zoom").get_attribute("viewBox") != whole
    band.click()
    assert shown.count() == everything
    assert page.locator("#c-rate .zoom").get_attribute("viewBox") == whole


def test_filter_and_search_find_requests(open_page: OpenPage) -> None:
    """An outcome, a word and both together leave only the rows that have them; Clear brings all back."""
    page = open_page("run")
    box, shown = page.locator("#requests .filter"), page.locator(".stories tbody tr:visible")
    everything = shown.count()
    box.locator('select[data-key="outcome"]').select_option("error")
    assert 0 < shown.count() < everything
    assert set(shown.locator(".outcome").all_inner_texts()) == {"error"}
    request = shown.first.locator("code").inner_text()
    box.locator("input").fill(request)
    assert shown.count() == 1
    expect(box.locator("output")).to_have_text(f"1 of {everything} shown")
    box.locator("input").fill("no request is called so")
    assert shown.count() == 0
    box.get_by_role("button").click()
    assert shown.count() == everything


def test_the_logbook_can_be_searched(open_page: OpenPage) -> None:
    """A word leaves only the lines that have it."""
    page = open_page("run")
    lines = page.locator("#log .log li:visible")
    everything = lines.count()
    page.locator("#log .filter input").fill("started")
    assert 0 < lines.count() < everything


def test_one_line_goes_through_all_charts(open_page: OpenPage) -> None:
    """Under the pointer a line stands in every chart at the same place, and the readout tells the tables' figures."""
    page = open_page("run")
    page.locator("#c-rate svg.chart").scroll_into_view_if_needed()
    page.locator("#c-rate svg.chart").hover()
    cursors = page.locator(".cursor.on")
    assert cursors.count() == page.locator("svg.chart .zoom").count()
    assert len(set(cursors.evaluate_all("all => all.map(each => each.getAttribute('x1'))"))) == 1
    told = page.locator("#readout").inner_text()
    moment = float(told.split(" s", 1)[0])
    row = page.evaluate(
        """moment => {
            const cells = row => [...row.cells].map(cell => cell.textContent);
            const rows = [...document.querySelectorAll('#c-rate tbody tr')].map(cells);
            return rows.filter(r => Number(r[0]) <= moment).pop();
        }""",
        moment,
    )
    assert f"due /s {row[1]}, sent /s {row[2]}, whole /s {row[3]}" in told
    page.mouse.move(2, 2)
    assert cursors.count() == 0


def test_a_drag_zooms_all_charts(open_page: OpenPage) -> None:
    """Dragging across a chart shows that stretch in all of them, ticks and labels too; a double click shows all."""
    page = open_page("run")
    chart = page.locator("#c-latency svg.chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    before = page.locator("#c-latency .time").all_text_contents()
    page.mouse.move(box["x"] + box["width"] * 0.3, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
    page.mouse.up()
    span = page.locator("#span").inner_text()
    start, end = (float(part) for part in re.findall(r"[\d.]+", span))
    assert 0 < start < end < 24
    for chart_name in ("rate", "latency", "breakers"):
        ticks = [float(text) for text in page.locator(f"#c-{chart_name} .time").all_text_contents()]
        assert len(ticks) >= 3
        assert all(start - 0.01 <= tick <= end + 0.01 for tick in ticks)
    page.mouse.dblclick(box["x"] + box["width"] / 2, y)
    assert page.locator("#span").inner_text() == "the whole run"
    assert len(page.locator("#c-latency .time").all_text_contents()) >= len(before) - 4


def test_everything_works_from_the_keyboard(open_page: OpenPage) -> None:
    """Line, zoom and faults can be had without a mouse, and one sees what has the focus."""
    page = open_page("run")
    page.locator(".panels").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    moment = float(page.locator("#readout").inner_text().split(" s", 1)[0])
    page.keyboard.press("ArrowRight")
    assert float(page.locator("#readout").inner_text().split(" s", 1)[0]) > moment
    page.keyboard.press("+")
    assert page.locator("#span").inner_text() != "the whole run"
    page.keyboard.press("Escape")
    assert page.locator("#span").inner_text() == "the whole run"
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.dataset.fault || ''")
    assert focused == "dark"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    expect(page.locator("#chosen")).to_have_text("Only requests under way during dark.")
    for act in ("in", "on", "back", "out", "all"):
        page.locator(f'.tools button[data-act="{act}"]').press("Enter")
    assert page.locator("#span").inner_text() == "the whole run"


def test_all_is_readable_without_the_script(open_page: OpenPage) -> None:
    """With JavaScript off every chart, table and request is there, and no button that would do nothing."""
    page = open_page("run", script=False)
    assert page.locator("svg.chart").first.is_visible()
    assert page.locator(".stories tbody tr:visible").count() > 10
    assert page.locator("button:visible, select:visible, input:visible").count() == 0


def test_every_chart_has_its_table(open_page: OpenPage) -> None:
    """Whatever is drawn over time can be unfolded as figures."""
    page = open_page("run")
    for panel in page.locator(".panel:has(svg.chart)").all():
        panel.locator("summary").click()
        assert panel.locator("tbody tr:visible").count() > 0


def test_the_suite_can_be_filtered(open_page: OpenPage) -> None:
    """A verdict or a word leaves only the runs that have it."""
    page = open_page("suite")
    cards = page.locator("#runs .card:visible")
    everything = cards.count()
    page.locator("#runs input").fill("red")
    assert 0 < cards.count() < everything


def test_hostile_words_stay_words(open_page: OpenPage) -> None:
    """No markup of a journal becomes an element, no script of it runs, and its direction of writing stays its own."""
    page = open_page("hostile")
    assert page.locator("img").count() == 0
    assert page.locator("svg[onload]").count() == 0
    assert "onerror=alert(1)" in page.locator("h1").inner_text()
    assert "\u202e" not in page.locator("body").inner_text()


def test_paper_gets_all_of_it_in_light_colours(open_page: OpenPage) -> None:
    """In print there are no buttons, no boxes that scroll, and dark text on white, whatever the theme."""
    page = open_page("run", scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("button:visible, select:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('.panels')).overflowX") == "visible"
