"""The page of a soak: what was measured of each process over time, a line each, and what must hold."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from benchmarks.soak_trends import Trend

__all__ = ["page_of"]

_WIDTH, _HEIGHT = 560, 80
_STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;"
    "padding:0 1rem}figure{display:inline-block;margin:0 1rem 1.2rem 0}svg{display:block;border-bottom:1px solid #8888}"
    "polyline{fill:none;stroke:#2a6fb0;stroke-width:1.5}.grows polyline{stroke:#c0392b}"
    "figcaption{font-size:13px;max-width:35rem}.wrong{color:#c0392b;font-weight:600}"
)


def page_of(seconds: int, trends: Sequence[Trend], facts: Sequence[tuple[str, str]], problems: Sequence[str]) -> str:
    """Return the HTML: nothing is loaded from elsewhere, and no script is in it."""
    told = Markup("").join(Markup("<li>{}</li>").format(fact) for _, fact in facts)
    wrong = Markup("").join(Markup('<li class="wrong">{}</li>').format(problem) for problem in problems)
    figures = Markup("\n").join(map(_figure, trends))
    state = "not level, or not right" if problems else "all is level"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return str(
        Markup(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Soak</title>'
            '<meta http-equiv="Content-Security-Policy" content="{}">'
            '<meta name="viewport" content="width=device-width"><style>{}</style></head>\n'
            "<body><h1>Seawall: {} s of mixed faults, {}</h1><ul>{}{}</ul>\n{}</body></html>\n"
        ).format(policy, Markup(_STYLE), seconds, state, told, wrong, figures)  # noqa: S704 - our own style
    )


def _figure(trend: Trend) -> Markup:
    low = min(0.0, *(value for _, value in trend.points))
    high = max(1e-9, *(value for _, value in trend.points)) * 1.1
    first, last = trend.points[0][0], trend.points[-1][0]
    across = max(1e-9, last - first)
    line = " ".join(
        f"{_WIDTH * (at - first) / across:.1f},{_HEIGHT * (1 - (value - low) / (high - low)):.1f}"
        for at, value in trend.points
    )
    return Markup(
        '<figure class="{}"><svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg><figcaption>{}</figcaption></figure>'
    ).format(
        "level" if trend.is_level else "grows",
        _WIDTH,
        _HEIGHT,
        _WIDTH,
        _HEIGHT,
        f"{trend.process} {escape(trend.measure)}",
        line,
        trend.sentence,
    )
