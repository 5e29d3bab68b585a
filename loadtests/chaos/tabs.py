"""Tables in Locust's own tabs: breakers and providers, spend, faults. Locust renders rows of text, and nothing else."""

from __future__ import annotations

from typing import Any

__all__ = ["TABLES", "TABS", "rows_of"]

TABS = [
    {"title": "Providers", "key": "seawall-providers"},
    {"title": "Spend", "key": "seawall-spend"},
    {"title": "Faults", "key": "seawall-faults"},
]


def _table(key: str, **titles: str) -> dict[str, Any]:
    return {"key": key, "structure": [{"key": name, "title": title} for name, title in titles.items()]}


TABLES = [
    _table(
        "seawall-providers",
        provider="Provider",
        breaker="Breaker",
        served="Answers",
        attempts="Attempts",
        failed="Failed attempts",
        p50="Median of last 100 (ms)",
    ),
    _table("seawall-spend", name="Spend", usd="US dollars", share="Of the day's limit"),
    _table(
        "seawall-faults", id="Fault", target="At", what="What", phase="Phase", until="Ends after (s)", problem="Problem"
    ),
]


def rows_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of all tables from the state that the harness tells; none before the first run."""
    if not state:
        return []
    limit = state.get("limit_usd")
    spent = [(row["provider"], row["spend_usd"]) for row in state["providers"]]
    spend = [{"name": name, "usd": f"{usd:.6f}", "share": _share(usd, limit)} for name, usd in spent]
    total = {"name": "today, reserved and settled", "usd": f"{state['spend_usd']:.6f}"}
    spend.append({**total, "share": _share(state["spend_usd"], limit)})
    return [
        {"key": "seawall-providers", "data": [_provider(row) for row in state["providers"]]},
        {"key": "seawall-spend", "data": spend},
        {"key": "seawall-faults", "data": [_fault(fault) for fault in state["faults"]]},
    ]


def _provider(row: dict[str, Any]) -> dict[str, Any]:
    median = row["p50_ms"]
    shown = {name: row[name] for name in ("provider", "served", "attempts", "failed")}
    return {**shown, "breaker": row["breaker"].replace("_", "-"), "p50": "–" if median is None else f"{median:.0f}"}


def _fault(fault: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": fault["id"],
        "target": fault["target"],
        "what": fault["description"],
        "phase": fault["phase"].replace("_", " "),
        "until": f"{fault['planned_at_s'] + fault['duration_s']:.0f}",
        "problem": fault["error"] or "",
    }


def _share(usd: float, limit: float | None) -> str:
    return "–" if not limit else f"{usd / limit:.4%}"
