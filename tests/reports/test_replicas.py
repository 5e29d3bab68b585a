"""Pods on the axis of time: ready, wanted, killed, and their CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from reports.charts import cpu, replicas
from reports.page import run_page
from reports.render import view_in
from reports.replicas import Kill


def test_pods_are_counted_as_their_kubelets_told(make_run: Callable[..., Path], parse_page: Any) -> None:
    """Ready until it is told otherwise; a signal is a kill, a clean end is none; wishes and CPU hold until the next."""
    folder = make_run(requests=100, duration_s=10.0, spells=[])
    path = folder / "journal.jsonl"
    base = 1_000_000_000_000
    pod = {"kind": "pod", "namespace": "shop", "node": "n1"}
    hpa = {"kind": "hpa", "namespace": "shop", "name": "gateway"}
    answer = {"kind": "metrics_answer", "asked_by": "controller", "path": "/", "selector": None, "status": 200}
    usage = {"namespace": "shop", "memory_bytes": 1, "end_wall_s": 0.0, "window_s": 15.0}
    told = [
        (-1.0, {**pod, "name": "a", "uid": "1", "action": "ready"}),
        (1.2, {**hpa, "current": 1, "desired": 3, "utilization": 140, "target_utilization": 50}),
        (2.2, {**pod, "name": "b", "uid": "2", "action": "start"}),
        (3.2, {**pod, "name": "b", "uid": "2", "action": "ready"}),
        (4.2, {**answer, "pods": [{**usage, "name": "a", "cpu_milli": 900}, {**usage, "name": "b", "cpu_milli": 350}]}),
        (5.2, {**pod, "name": "a", "uid": "1", "action": "exit", "code": -9}),
        (6.0, {**pod, "name": "b", "uid": "2", "action": "stop", "grace_s": 0.0}),
        (6.2, {**pod, "name": "b", "uid": "2", "action": "exit", "code": -15}),
    ]
    with path.open("ab") as file:
        for n, (at_s, event) in enumerate(told):
            stamp = {"v": 1, "mono_ns": base + round(at_s * 1e9), "wall": 0.0, "source": "kubelet-1", "seq": n}
            file.write(msgspec.json.encode({**stamp, **event}) + b"\n")
    view = view_in(folder)
    found = view.replicas
    assert found is not None
    step = view.timeline.step_s

    def at(values: tuple[Any, ...], moment: float) -> Any:
        return values[int((moment - view.timeline.start_s) / step)]

    assert [at(found.ready, moment) for moment in (0.5, 2.5, 3.5, 5.5, 6.5)] == [1, 1, 2, 1, 0]
    assert [at(found.desired, moment) for moment in (0.5, 1.5, 8.0)] == [None, 3, 3]
    assert at(found.cpu_milli, 8.0) == 1250
    assert [at(found.utilization, moment) for moment in (0.5, 8.0)] == [None, 140]
    assert found.kills == (Kill(at_s=5.2, pod="a", code=-9), Kill(at_s=6.0, pod="b", code=None))
    chart = replicas.draw(view)
    assert chart is not None
    assert chart.table is not None
    assert [row for row in chart.table.rows if "a (-9)" in row[3]]
    share = cpu.draw(view)
    assert share is not None
    assert share.table is not None
    assert [row for row in share.table.rows if row[1:] == ("140", "50", "1.25")]
    assert parse_page(run_page(view)).problems == []


def test_a_run_without_pods_has_no_such_chart(make_view: Callable[..., Any]) -> None:
    """What plays no part is not drawn."""
    assert replicas.draw(make_view()) is None
    assert cpu.draw(make_view()) is None
