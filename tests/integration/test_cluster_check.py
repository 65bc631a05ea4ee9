"""The questions of ``cluster check`` put to the nodes of a real Ray, and where that Ray listens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cluster.nodes import free_resources, living_nodes
from orchestrator.cli.cluster import inspect
from orchestrator.study import load_study

pytestmark = pytest.mark.ray


def test_a_running_ray_answers_for_a_study(shared_ray: Path, tmp_path: Path) -> None:
    found = {
        finding.name: finding for finding in inspect(load_study("demo", [f"storage={tmp_path / 'shared'}"]))
    }
    assert {finding.state for finding in found.values()} <= {"ok", "warning"}, found
    assert found["nodes"].text.startswith("1: ") and found["nodes"].text.endswith("head")
    assert found["storage"].text == "written and read on one node"
    assert found["token"].state == found["weights"].state == found["versions"].state == "ok"
    assert found["slots"].text.startswith("3 fit"), "4 logical cores, 1.1 for each slot and its trial"
    assert not list((tmp_path / "shared" / ".check").iterdir()), "its marks are gone"

    missing = load_study("demo", [f"storage={tmp_path}", "dataset={name: folder, root: /nowhere}"])
    data = next(finding for finding in inspect(missing) if finding.name == "data")
    assert data.state == "error" and "/nowhere is not there on" in data.text


def test_room_for_slots_without_a_node_is_reserved_and_given_back(shared_ray: Path) -> None:
    from ray.util.placement_group import placement_group_table

    from orchestrator.slots.demand import Demand
    from orchestrator.slots.placement import SlotSize

    (node,) = living_nodes()
    assert node.head and node.host and not node.draining
    before = free_resources()[node.id]["CPU"]
    demand = Demand(SlotSize(cpus=1, gpus=0))
    demand(2)
    first, second = demand._asked
    assert first.wait(60) and second.wait(60)
    demand(1)
    demand(0)
    assert {placement_group_table(group)["state"] for group in (first, second)} == {"REMOVED"}
    demand = Demand(SlotSize(cpus=1, gpus=1))
    demand(1)
    assert not demand._asked[0].wait(0.5), "there is no GPU: that is for an autoscaler to change"
    demand(0)
    until = time.monotonic() + 60
    while free_resources()[node.id]["CPU"] < before and time.monotonic() < until:
        time.sleep(0.1)
    assert free_resources()[node.id]["CPU"] == before


def test_a_local_ray_listens_on_loopback_alone(shared_ray: Path) -> None:
    import ipaddress

    import ray
    from psutil import CONN_LISTEN, Process

    assert ray.is_initialized()
    us = Process()
    listening = {
        (process.name(), connection.laddr.ip)
        for process in (us, *us.children(recursive=True))
        for connection in process.net_connections(kind="inet")
        if connection.status == CONN_LISTEN
    }
    assert len(listening) > 3
    addresses = {address: ipaddress.ip_address(address) for _, address in listening}
    mapped = {text: getattr(address, "ipv4_mapped", None) or address for text, address in addresses.items()}
    assert all(address.is_loopback for address in mapped.values()), listening
