"""A study on two nodes: one loses a worker, is killed with all it runs, comes back, and is told to go.

    uv run pytest -m slow tests/integration/test_two_nodes.py

Needs root and `ip` for network namespaces. 2.5 minutes on 2 cores.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.ledger import Ledger, StudyStore
from orchestrator.work.shown import EpochShown, NoteShown, Shown, SlotShown, TrialShown

if TYPE_CHECKING:
    from namespaces import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]

ROOT = Path(__file__).parents[2]

PATIENCE = 240.0
"""Seconds to wait for a moment of the study on a busy machine."""

TRIALS, EPOCHS = 40, 3
"""So many that the study is not over before the node is back."""


@pytest.fixture
def cluster(importable: None, tmp_path: Path) -> Iterator[Cluster]:
    from namespaces import two_namespaces, why_not

    if reason := why_not():
        pytest.skip(reason)
    path = f"{ROOT}:{Path(__file__).parent}"
    with two_namespaces(PYTHONPATH=path, STAND_IN=str(tmp_path)) as found:
        found.start_node(found.head, cpus=3, gpus=2)
        found.start_node(found.other, cpus=3, gpus=2)
        yield found


class Driver:
    """A driver in the head's namespace, and what it tells its user, with the time of each event."""

    def __init__(self, cluster: Cluster, folder: Path, *overrides: str) -> None:
        self.shown: list[tuple[float, Shown]] = []
        self.output: list[str] = []
        self.process = subprocess.Popen(
            cluster.command(
                cluster.head,
                str(Path(__file__).with_name("run_driver.py")),
                "demo",
                "stand_in:make",
                *overrides,
            ),
            cwd=folder,
            env={**cluster.variables, "RAY_ADDRESS": cluster.gcs, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, moment: Callable[[Shown], bool], what: str, *, after: float = 0.0) -> float:
        """When the first event after a time was shown of which ``moment`` is true."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            for at, event in list(self.shown):
                if at >= after and moment(event):
                    return at
            assert self.process.poll() is None, "".join(self.output[-60:])
            time.sleep(0.05)
        raise AssertionError(f"never: {what}\n{''.join(self.output[-60:])}")

    def on(self, address: str) -> dict[str, int]:
        """Trials in work on a node, by slot."""
        busy: dict[str, int] = {}
        for _, event in list(self.shown):
            if isinstance(event, SlotShown) and event.slot.startswith(address):
                busy.pop(event.slot, None)
                if event.state == "busy" and event.trial is not None:
                    busy[event.slot] = event.trial
        return busy

    def finish(self) -> None:
        code = self.process.wait(PATIENCE)
        self._reader.join(10)
        assert code == 0, "".join(self.output[-60:])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if line.startswith("shown "):
                self.shown.append((time.monotonic(), pickle.loads(bytes.fromhex(line.split()[1]))))


def test_slots_follow_nodes_that_are_killed_come_back_and_are_taken_away(
    cluster: Cluster, tmp_path: Path
) -> None:
    storage = tmp_path / "runs"
    pace = tmp_path / "epoch_s"
    pace.write_text("3")
    driver = Driver(
        cluster,
        tmp_path,
        f"storage={storage}",
        f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}",
        f"search.trials={TRIALS}",
        f"recipe.epochs={EPOCHS}",
        "seeds=[1,2]",
        "finalists=1",
        "slots.gpus=1",
        "search.scheduler=none",
    )
    # The namespaces of one machine have one host name: whoever joined second goes by its address.
    other = cluster.addresses[cluster.other]
    started = time.monotonic()

    def is_slot(state: str, name: str = "") -> Callable[[Shown], bool]:
        return lambda event: isinstance(event, SlotShown) and event.state == state and name in event.slot

    is_up = is_slot("idle", other)

    def in_work(event: Shown) -> bool:
        return isinstance(event, EpochShown) and event.trial in driver.on(other).values()

    def says(*words: str) -> Callable[[Shown], bool]:
        return lambda event: isinstance(event, NoteShown) and all(word in event.text for word in words)

    try:
        driver.until(is_up, "slots on both nodes")
        driver.until(in_work, "a trial in work there")

        died = time.monotonic()
        os.kill(_worker(tmp_path / "epochs.log", cluster.pids(cluster.other)), signal.SIGKILL)
        down = driver.until(is_slot("restarting"), "the death of a worker", after=died)
        slot = next(
            event.slot
            for at, event in driver.shown
            if at == down and isinstance(event, SlotShown) and event.state == "restarting"
        )
        restarted = driver.until(is_slot("idle", slot), "its slot again", after=down) - died
        driver.until(in_work, "a trial in work there", after=died + restarted)

        lost = set(driver.on(other).values())
        killed = time.monotonic()
        cluster.kill(cluster.other)

        elsewhere = {
            trial: driver.until(
                lambda event, trial=trial: (
                    (isinstance(event, SlotShown) and event.trial == trial and other not in event.slot)
                    or (isinstance(event, TrialShown) and event.number == trial and event.state == "complete")
                ),
                f"trial {trial} on the other node, unless it was complete when its own was killed",
                after=killed,
            )
            - killed
            for trial in lost
        }
        assert max(elsewhere.values()) < 90
        gone = driver.until(says("is gone", other), "the node is known to be gone", after=killed) - killed

        pace.write_text("8")  # the study must not be over before the node is back
        back = time.monotonic()
        cluster.start_node(cluster.other, cpus=3, gpus=2)
        again = driver.until(is_up, "slots on the node that came back", after=back) - back
        driver.until(in_work, "they work", after=back)

        told = time.monotonic()
        held = set(driver.on(other).values())
        cluster.drain(cluster.other)
        driver.until(says("will be taken away", other), "the notice", after=told)
        left = max(
            driver.until(is_slot("gone", f"{other}:{number}"), f"slot {number} left", after=told)
            for number in (0, 1)
        )
        assert not driver.on(other)
        pace.write_text("0.1")
        driver.finish()
    finally:
        driver.process.kill()
        driver.process.wait()
    print(
        f"slots up {driver.until(is_up, '') - started:.0f} s, again {restarted:.0f} s after a death; "
        f"trials {sorted(lost)} elsewhere {max(elsewhere.values()):.1f} s after the loss; "
        f"node known to be gone after {gone:.0f} s; slots on "
        f"the node that came back after {again:.0f} s; drained of {sorted(held)} in {left - told:.1f} s; "
        f"all in all {time.monotonic() - started:.0f} s"
    )
    turns = Counter(
        event.trial for _, event in driver.shown if isinstance(event, SlotShown) and event.trial is not None
    )
    _nothing_was_lost_or_done_twice(storage, tmp_path / "epochs.log", turns)


def _worker(log: Path, pids: set[int]) -> int:
    """Of some processes the one that trained last."""
    trained = [int(line.split()[-1]) for line in log.read_text().splitlines()]
    return next(pid for pid in reversed(trained) if pid in pids)


def _nothing_was_lost_or_done_twice(storage: Path, log: Path, turns: Counter[int]) -> None:
    store, ledger = StudyStore(storage, "demo"), Ledger(storage)
    trials = store.load_trials()
    assert [(trial.number, trial.state, trial.attempts) for trial in trials] == [
        (number, "complete", 1) for number in range(TRIALS)
    ]
    keys = {key for trial in trials for key in trial.keys}
    assert set(ledger.get_many(keys)) == keys, "no cell is lost"
    (invocation,) = store.load_invocations()
    assert invocation.quarantined == [], "the loss of a node is held against no slot"
    finished = Counter(invocation.trained)
    assert keys <= set(finished) and set(finished.values()) == {1}, "no cell is finished twice"
    epochs = Counter(
        (key, int(epoch)) for _, key, epoch, _ in (line.split() for line in log.read_text().splitlines())
    )
    assert all((key, epoch) in epochs for key in keys for epoch in range(1, EPOCHS + 1))
    repeated = Counter(key for (key, _), count in epochs.items() for _ in range(count - 1))
    assert all(repeated[key] < turns[trial.number] for trial in trials for key in trial.keys), (
        "one epoch at most each time that a trial was taken from its slot"
    )
