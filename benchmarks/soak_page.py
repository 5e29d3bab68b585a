"""The page of a soak: what must hold, and what was measured of each process over time, a chart for each trend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from benchmarks.soak_trends import Life, Trend

if TYPE_CHECKING:
    from benchmarks.soak import Result

__all__ = ["page_of"]

_WIDTH, _HEIGHT = 320, 84
_POINTS_MAX = 300  # of one life; a chart has no more columns
_STYLE = """
:root{color-scheme:light dark;--line:#2a6fb0;--bad:#b3261e;--soft:#8886;--band:#8882}
@media(prefers-color-scheme:dark){:root{--line:#7ab6ea;--bad:#ff8a80}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;max-width:74rem;margin:1.5rem auto;padding:0 1rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .6rem}h2{font-size:1.1rem;margin:1.6rem 0 .6rem}
ul{padding-left:1.2rem}.bad{color:var(--bad);font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem 1.4rem}
figure{margin:0;min-width:0}svg{display:block;width:100%;height:auto;border-bottom:1px solid var(--soft)}
polyline{fill:none;stroke:var(--line);stroke-width:1.5;vector-effect:non-scaling-stroke}
.grows polyline{stroke:var(--bad)}figcaption{font-size:13px;line-height:1.4;margin-bottom:.25rem}
.axis{display:flex;justify-content:space-between;font-size:12px;opacity:.8}
"""
_PAGE = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Soak: {}</title>'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    '<meta name="viewport" content="width=device-width, initial-scale=1"><style>{}</style></head>\n'
    "<body><h1>{} s of mixed faults, kills and restarts: {}</h1>\n<ul>{}</ul>\n{}\n"
    "<h2>How to read it</h2><p>A line is one life of a process, from its start to its end; the bottom of a chart is 0. "
    "Slopes are Theil and Sen’s, within lives, without the first third of each; a growth counts when it is more than "
    "allowed and its lower bound (95 %) is above 0.</p></body></html>\n"
)


def page_of(result: Result) -> str:
    """Return the HTML: nothing is loaded from elsewhere, and no script is in it."""
    state = (
        "not right"
        if result.problems
        else "says nothing"
        if result.missing
        else "all is level, and the books are right"
    )
    bad = [f"Not right: {each}" for each in result.problems] + [f"Says nothing: {each}" for each in result.missing]
    lines = [Markup('<li class="bad">{}</li>').format(each) for each in bad]
    lines += [Markup("<li>{}</li>").format(each) for each in result.facts]
    processes = dict.fromkeys(trend.process for trend in result.trends)
    parts = [
        Markup('<h2>{}</h2><div class="charts">{}</div>').format(
            process, Markup("\n").join(_figure(trend) for trend in result.trends if trend.process == process)
        )
        for process in processes
    ]
    style = Markup(_STYLE)  # noqa: S704 - our own
    return str(_PAGE.format(state, style, result.seconds, state, Markup("").join(lines), Markup("\n").join(parts)))


def _figure(trend: Trend) -> Markup:
    points = [point for life in trend.lives for point in life]
    high = max(1e-9, *(value for _, value in points)) * 1.08
    first, last = min(at for at, _ in points), max(at for at, _ in points)
    lines = Markup("").join(
        Markup('<polyline points="{}"/>').format(_line(life, first, max(1e-9, last - first), high))
        for life in trend.lives
    )
    unit = f" {trend.unit}" if trend.unit else ""
    caption = Markup(
        "<strong>{}</strong> {}, about {:.1f}{}; {:+.2f} a minute (at least {:+.2f}), too much from {:.2f}"
    )
    return Markup(
        '<figure class="{}"><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        '<div class="axis"><span>{:.0f} s</span><span>highest {:.1f}{}</span><span>{:.0f} s</span></div></figure>'
    ).format(
        "level" if trend.is_level else "grows",
        caption.format(
            trend.measure,
            "level" if trend.is_level else "GROWS",
            trend.level,
            unit,
            trend.slope,
            trend.lower,
            trend.visible,
        ),
        _WIDTH,
        _HEIGHT,
        trend.sentence,
        lines,
        first,
        high / 1.08,
        unit,
        last,
    )


def _line(life: Life, first: float, across: float, high: float) -> str:
    thinned = life[:: max(1, len(life) // _POINTS_MAX)]
    return " ".join(f"{_WIDTH * (at - first) / across:.1f},{_HEIGHT * (1 - value / high):.1f}" for at, value in thinned)
