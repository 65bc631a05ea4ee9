"""One driver at a time: refusal, take-over, fencing; whatever the clocks say."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.ledger import LeaseError, StudyStore
from orchestrator.ledger.documents import encode
from orchestrator.ledger.holding import Holding, Owner, current_fence, observe, read_holding
from orchestrator.ledger.lease import Lease, WaitEnded
from orchestrator.ledger.storage import Storage, open_storage
from orchestrator.ledger.watch import INTERVAL, PATIENCE, held

FAST = {"interval": 0.05, "settle": 0.05}


@pytest.fixture(params=["local", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StudyStore:
    root = str(tmp_path) if request.param == "local" else f"fsspec+memory://{secrets.token_hex(4)}/runs"
    return StudyStore(root, "demo")


LIMIT = PATIENCE * INTERVAL


def hold(
    storage: Storage,
    owner: Owner,
    *,
    fence: int = 1,
    at: str = "2026-01-01T00:00:00+00:00",
    interval: float = 0.05,
    beats: int = 3,
) -> None:
    """Write what another process's lease would look like."""
    holding = Holding(
        fence=fence,
        owner=owner,
        acquired_at=at,
        heartbeat_at=at,
        beats=beats,
        interval=interval,
        released=False,
    )
    storage.write(f"studies/demo/driver/{fence}.json", encode(holding.to_dict()))


def elsewhere() -> Owner:
    return replace(Owner.this_process(""), host="elsewhere", namespace="elsewhere", token="other")


class Time:
    """A clock that goes on only while somebody waits; a living holder then beats, by its own clock."""

    def __init__(self, beat: Callable[[int], None] = lambda beats: None) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self._beat, self._beats = beat, 0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        while self.now >= (self._beats + 1) * INTERVAL:
            self._beats += 1
            self._beat(self._beats)

    def take(self, store: StudyStore) -> Lease:
        """Take the lease as a driver does; LeaseError if somebody holds it."""
        lease = store.driver_lease(clock=self, settle=0.0)
        lease.take(self.told.append, self.pause)
        lease.release()
        return lease


def test_a_second_driver_is_told_who_holds_the_study(store: StudyStore) -> None:
    with store.driver_lease(invocation="first", **FAST) as lease:
        fence = lease.take()
        with pytest.raises(LeaseError, match=rf"process {os.getpid()} on .* since .*invocation first"):
            store.driver_lease(**FAST).take()
    assert store.driver_lease(**FAST).take() > fence


def test_a_lease_that_is_being_renewed_is_read_again(
    store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.driver_lease(invocation="first", interval=60, settle=0.05) as lease:
        lease.take()
        read, answers = type(store.storage).read, iter([b"", b'{"fence": 1, "ow'])
        monkeypatch.setattr(type(store.storage), "read", lambda *given: next(answers, read(*given)))
        seen = observe(store.storage, f"studies/{store.name}/driver")
        assert seen is not None and seen.holding is not None and seen.holding.owner.invocation == "first"


def test_fences_grow_and_only_the_last_is_valid(store: StudyStore) -> None:
    assert store.fence_valid(0) and not store.fence_valid(1)
    before = 0
    for _ in range(3):
        lease = store.driver_lease(**FAST)
        fence = lease.take()
        assert fence > before and (fence == before + 1 or not store.storage.exclusive)
        assert store.fence_valid(fence) and not store.fence_valid(before or fence + 1)
        lease.release()
        before = fence
    assert store.storage.names("studies/demo/driver") == [f"{before}.json"]


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
        "StudyStore(sys.argv[1], 'demo').driver_lease(interval=0.2).take()\nprint('held', flush=True)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    store = StudyStore(tmp_path, "demo")
    with pytest.raises(LeaseError, match=f"process {process.pid} "):
        store.driver_lease().take()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its parent has not asked for its end yet
    with store.driver_lease() as lease:
        assert lease.take(pause=lambda seconds: pytest.fail("nothing to wait for")) == 2
    process.wait()


def test_a_reused_pid_is_not_the_old_process(store: StudyStore) -> None:
    me = Owner.this_process("old")
    hold(store.storage, replace(me, started="1", token="other"), at="2999-01-01T00:00:00+00:00")
    with store.driver_lease(**FAST) as lease:
        assert lease.take() > 1


@pytest.mark.parametrize("stamp", ["2020-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_living_driver_keeps_its_study_whatever_the_clocks_say(
    store: StudyStore, stamp: str, where: str
) -> None:
    owner = elsewhere() if where == "elsewhere" else replace(Owner.this_process(""), token="other")

    def beat(beats: int) -> None:
        hold(store.storage, owner, at=stamp, interval=INTERVAL, beats=beats)

    beat(0)
    time = Time(beat)
    with pytest.raises(LeaseError, match=rf"process {os.getpid()} on {owner.host} .* it is alive"):
        time.take(store)
    assert time.now <= INTERVAL + 1 and current_fence(store.storage, "studies/demo/driver") == 1


@pytest.mark.parametrize("stamp", ["2020-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
@pytest.mark.parametrize("where", ["here, stopped", "elsewhere"])
def test_a_driver_that_stands_still_is_taken_over_after_a_bounded_wait_that_is_told(
    store: StudyStore, stamp: str, where: str
) -> None:
    owner = elsewhere() if where == "elsewhere" else replace(Owner.this_process(""), token="other")
    hold(store.storage, owner, at=stamp, interval=INTERVAL)
    time = Time()
    time.take(store)
    assert LIMIT <= time.now <= LIMIT + 1
    assert time.told == [
        f"Waiting up to 30 s to see whether process {os.getpid()} on {owner.host}, "
        "which holds study 'demo', still runs"
    ]


def test_the_wait_is_bounded_whatever_interval_a_file_names(store: StudyStore) -> None:
    hold(store.storage, elsewhere(), interval=1e9)
    time = Time()
    time.take(store)
    assert time.now <= 310


def test_time_in_which_the_contender_was_stopped_proves_nothing(store: StudyStore) -> None:
    hold(store.storage, elsewhere(), interval=INTERVAL)
    time = Time()
    lease = store.driver_lease(clock=time, settle=0.0)
    assert lease.try_acquire() is not None
    time.now += 7200.0
    assert lease.try_acquire() is not None, "the holder may have been stopped with it"


def test_the_user_can_end_the_wait(store: StudyStore) -> None:
    hold(store.storage, elsewhere(), interval=INTERVAL)
    with pytest.raises(WaitEnded):
        store.driver_lease().take(pause=lambda seconds: True)
    assert current_fence(store.storage, "studies/demo/driver") == 1


def test_what_is_cleaned_is_judged_by_beats_too(store: StudyStore) -> None:
    hold(store.storage, elsewhere(), at="2020-01-01T00:00:00+00:00", interval=INTERVAL)
    time = Time(lambda beats: hold(store.storage, elsewhere(), interval=INTERVAL, beats=beats + 3))
    folders = ["studies/demo/driver", "studies/none/driver"]
    told: list[str] = []
    assert held(store.storage, folders, tell=told.append, sleep=time.pause, clock=time) == {folders[0]}
    time = Time()
    assert held(store.storage, folders, tell=told.append, sleep=time.pause, clock=time) == set()
    assert LIMIT <= time.now <= LIMIT + 1
    assert told == [f"Waiting up to 30 s to see whether process {os.getpid()} on elsewhere still runs"] * 2


def test_a_driver_that_was_overtaken_notices(store: StudyStore) -> None:
    with store.driver_lease(**FAST) as lease:
        fence = lease.take()
        hold(store.storage, elsewhere(), fence=fence + 1)
        assert lease.lost.wait(5)
        assert not store.fence_valid(fence) and not lease.holds()
        assert f"process {os.getpid()} on elsewhere" in lease.successor_in_words
    later = read_holding(store.storage, "studies/demo/driver")
    assert later is not None and later.fence == fence + 1 and not later.released, (
        "releasing touched the other's lease"
    )


def test_a_driver_that_was_stopped_asks_before_it_trusts_its_lease(store: StudyStore) -> None:
    with store.driver_lease(interval=3600.0, settle=0.0) as lease:
        fence = lease.take()
        hold(store.storage, elsewhere(), fence=fence + 1)
        assert lease.holds(), "its last heartbeat is fresh, so nobody is asked"
        lease._beaten -= 3 * 3600.0
        assert not lease.holds() and lease.lost.is_set()


def test_a_newer_lease_file_that_cannot_be_read_yet_is_a_new_holder(store: StudyStore) -> None:
    with store.driver_lease(**FAST) as lease:
        fence = lease.take()
        store.storage.write(f"studies/demo/driver/{fence + 1}.json", b"")
        assert lease.lost.wait(5)
    assert store.storage.read(f"studies/demo/driver/{fence + 1}.json") == b""


def test_a_torn_file_of_its_own_lease_is_written_again(store: StudyStore) -> None:
    with store.driver_lease(**FAST) as lease:
        fence = lease.take()
        store.storage.write(f"studies/demo/driver/{fence}.json", b'{"sha')
        while read_holding(store.storage, "studies/demo/driver") is None:
            assert not lease.lost.wait(0.01)


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


def test_a_torn_newest_lease_file_counts_as_held_until_it_stood_still(store: StudyStore) -> None:
    store.storage.write("studies/demo/driver/4.json", b"{")
    time = Time()
    lease = time.take(store)
    assert LIMIT <= time.now <= LIMIT + 1 and "whose lease file cannot be read" in time.told[0]
    assert current_fence(store.storage, "studies/demo/driver") > 4 and not lease.lost.is_set()


def test_a_lease_file_that_is_being_written_belongs_to_who_writes_it(store: StudyStore) -> None:
    store.storage.write("studies/demo/driver/4.json", b"")
    time = Time(lambda beats: hold(store.storage, elsewhere(), fence=4))
    with pytest.raises(LeaseError, match="on elsewhere"):
        time.take(store)
