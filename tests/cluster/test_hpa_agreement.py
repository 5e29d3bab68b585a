"""The HPA model beside the real controller: whatever the simulation concludes of scaling rests on this."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hpa_histories import compared

from seawall.cluster import Access, Client
from seawall.cluster.kubelet import Orders, write_orders

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

HISTORIES, SYNCS = (int(number) for number in os.environ.get("HPA_HISTORIES", "4x15").split("x"))


async def test_the_model_and_the_controller_want_the_same_in_each_sync(
    cluster_with_nodes: Access, tmp_path: Path
) -> None:
    """
    Of the same metrics the model and the real controller make the same number of replicas, sync by sync.

    Several HPAs with rules of their own run side by side; `HPA_HISTORIES=20x30` takes 20 of them and 30 syncs.
    """
    write_orders(cluster_with_nodes.state, Orders(events=str(tmp_path)))
    try:
        async with Client(cluster_with_nodes) as client:
            found = await compared(client, tmp_path, HISTORIES, SYNCS, seed=20)
    finally:
        write_orders(cluster_with_nodes.state, Orders())
    print(f"\n{len(found)} syncs of {HISTORIES} HPAs")
    assert len(found) >= HISTORIES * SYNCS * 0.7
    assert len({sync.controller for sync in found}) > 2, "the histories ask for no change"
    different = [sync for sync in found if sync.controller != sync.model]
    assert not different, "\n".join(map(str, different[:20]))
