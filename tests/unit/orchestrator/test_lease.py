"""One driver at a time: refusal, take-over, fencing."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.ledger import LeaseError, StudyStore
from orchestrator.ledger.documents import encode
from orchestrator.ledger.lease import Holding, Lease, Owner, read_holding
from orchestrator.ledger.storage import Storage, open_storage

FAST = {"interval": 0.05, "settle": 0.05}


@pytest.fixture(params=["local", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StudyStore:
    root = str(tmp_path) if request.param == "local" else f"fsspec+memory://{secrets.token_hex(4)}/runs"
    return StudyStore(root, "demo")


def hold(storage: Storage, owner: Owner, *, fence: int = 1, at: str = "2026-01-01T00:00:00+00:00") -> Holding:
    """Write what another process's lease would look like."""
    holding = Holding(
        fence=fence, owner=owner, acquired_at=at, heartbeat_at=at, beats=3, interval=0.05, released=False
    )
    storage.write(f"studies/demo/driver/{fence}.json", encode(holding.to_dict()))
    return holding


def test_a_second_driver_is_told_who_holds_the_study(store: StudyStore) -> None:
    with store.driver_lease(invocation="first", **FAST) as lease:
        assert lease.take() == 1
        with pytest.raises(LeaseError, match=rf"process {os.getpid()} on .* since .*invocation first"):
            store.driver_lease(**FAST).take()
    assert store.driver_lease(**FAST).take() == 2


def test_fences_grow_and_only_the_last_is_valid(store: StudyStore) -> None:
    assert store.fence_valid(0) and not store.fence_valid(1)
    for expected in (1, 2, 3):
        lease = store.driver_lease(**FAST)
        assert lease.take() == expected
        assert store.fence_valid(expected) and not store.fence_valid(expected - 1 or 99)
        lease.release()
    assert store.storage.names("studies/demo/driver") == ["3.json"]


def test_heartbeats_keep_the_lease(store: StudyStore) -> None:
    with store.driver_lease(**FAST) as lease:
        lease.take()
        first = read_holding(store.storage, "studies/demo/driver")
        assert first is not None
        while (
            now := read_holding(store.storage, "studies/demo/driver")
        ) is None or now.beats < first.beats + 3:
            assert not lease.lost.wait(0.01)
        assert now.heartbeat_at > first.heartbeat_at


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom orchestrator.ledger import StudyStore\n"
        "StudyStore(sys.argv[1], 'demo').driver_lease(interval=60).take()\nprint('held', flush=True)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    store = StudyStore(tmp_path, "demo")
    with pytest.raises(LeaseError, match=f"process {process.pid} "):
        store.driver_lease().take()
    process.kill()
    process.wait()
    with store.driver_lease() as lease:
        assert lease.take() == 2


def test_a_reused_pid_is_not_the_old_process(store: StudyStore) -> None:
    me = Owner.this_process("old")
    hold(store.storage, replace(me, started="1", token="other"), at="2999-01-01T00:00:00+00:00")
    with store.driver_lease(**FAST) as lease:
        assert lease.take() == 2


def test_an_old_heartbeat_of_another_host_that_stands_still_is_taken_over(store: StudyStore) -> None:
    hold(
        store.storage, replace(Owner.this_process(""), host="elsewhere", namespace="elsewhere", token="other")
    )
    with store.driver_lease(**FAST) as lease:
        assert lease.take() == 2


def test_a_host_whose_clock_is_behind_keeps_its_lease(store: StudyStore) -> None:
    owner = replace(Owner.this_process(""), host="elsewhere", namespace="elsewhere", token="other")
    stop = threading.Event()

    def beat() -> None:
        beats = 0
        while not stop.wait(0.01):
            beats += 1
            holding = Holding(
                fence=1,
                owner=owner,
                acquired_at="2020-01-01T00:00:00+00:00",
                heartbeat_at="2020-01-01T00:00:00+00:00",
                beats=beats,
                interval=0.05,
                released=False,
            )
            store.storage.write("studies/demo/driver/1.json", encode(holding.to_dict()))

    hold(store.storage, owner)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LeaseError, match="elsewhere"):
            store.driver_lease(**FAST).take()
    finally:
        stop.set()
        thread.join()


def test_a_driver_that_was_overtaken_notices(store: StudyStore) -> None:
    with store.driver_lease(**FAST) as lease:
        fence = lease.take()
        hold(store.storage, replace(Owner.this_process(""), token="other"), fence=fence + 1)
        assert lease.lost.wait(5)
        assert not store.fence_valid(fence)
    later = read_holding(store.storage, "studies/demo/driver")
    assert later is not None and later.fence == 2 and not later.released, (
        "releasing touched the other's lease"
    )


def test_of_many_contenders_one_wins(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    start, won = threading.Barrier(8), []
    leases = [Lease(storage, "claims/x", **FAST) for _ in range(8)]

    def contend(lease: Lease) -> None:
        start.wait()
        if lease.try_acquire() is None:
            won.append(lease)

    threads = [threading.Thread(target=contend, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()


def test_a_damaged_lease_file_does_not_lock_the_study_for_ever(store: StudyStore) -> None:
    store.storage.write("studies/demo/driver/4.json", b"{")
    with store.driver_lease(**FAST) as lease:
        assert lease.take() == 5
