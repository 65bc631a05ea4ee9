"""Whole sweeps on a real local Ray: slots, thin trials, the searcher, early stopping, deaths, cancellation.

The engine only pretends to train, so that minutes suffice; records, MLflow and Ray are real.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver import Options, Outcome, confirm_study, request_cancel, run_study
from orchestrator.driver.interrupt import DEADLINE, Interrupt
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cells import TEST, WEIGHTS
from orchestrator.rows.scoring import finalists
from orchestrator.statistics.stages import reached
from orchestrator.study import load_plan
from orchestrator.work.shown import EpochShown, NoteShown, PhaseShown, Shown, SweepShown, TrialShown

pytestmark = pytest.mark.ray


class Sweep:
    """One study on the shared Ray, and what its user sees."""

    def __init__(self, folder: Path, stand_in: Path, *overrides: str, epoch_s: float) -> None:
        self.stand_in = stand_in
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.plan = load_plan("demo", [f"storage={folder / 'runs'}", f"tracking.uri={self.uri}", *overrides])
        self.store = StudyStore(self.plan.study.storage, self.plan.study.name)
        self.ledger = Ledger(self.plan.study.storage)
        self.shown: list[Shown] = []
        self._reactions: list[tuple[type[Shown], dict[str, Any], Callable[[], Any]]] = []
        (stand_in / "epoch_s").write_text(str(epoch_s))
        (stand_in / "epochs.log").write_text("")

    def when(self, act: Callable[[], Any], what: type[Shown], **values: Any) -> None:
        """Act once, when the user is shown something of a type with these values."""
        self._reactions.append((what, values, act))

    def run(self, *, interrupt: Interrupt | None = None, retry_failed: bool = False) -> Outcome:
        self.shown.clear()
        options = Options(executor="stand_in:make", interrupt=interrupt)
        return run_study(self.plan, self._progress, retry_failed=retry_failed, options=options)

    def epochs(self) -> Counter[tuple[str, int]]:
        """How often each epoch of each cell was trained."""
        lines = (line.split() for line in (self.stand_in / "epochs.log").read_text().splitlines())
        return Counter((key, int(epoch)) for _, key, epoch, _ in lines)

    def kill_worker(self) -> None:
        """SIGKILL to the process that trained last."""
        os.kill(int((self.stand_in / "epochs.log").read_text().split()[-1]), signal.SIGKILL)

    def thin_trials(self) -> Iterator[int]:
        """Processes of the thin trials of this Ray, known by their environment."""
        for process in Path("/proc").iterdir():
            try:
                is_trial = (process / "cmdline").read_bytes().startswith(b"ray::ThinTrial")
                if is_trial and str(self.stand_in).encode() in (process / "environ").read_bytes():
                    yield int(process.name)
            except OSError:
                continue

    def kill_thin_trials(self) -> None:
        for process in self.thin_trials():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _progress(self, event: Shown) -> None:
        self.shown.append(event)
        for reaction in list(self._reactions):
            what, values, act = reaction
            if isinstance(event, what) and all(getattr(event, n) == value for n, value in values.items()):
                self._reactions.remove(reaction)
                act()


def test_a_sweep_survives_deaths_of_its_processes_and_is_not_repeated(
    shared_ray: Path, with_database: Path
) -> None:
    sweep = Sweep(
        with_database,
        shared_ray,
        "name=deaths",
        "search.trials=9",
        "slots.count=2",
        "search.scheduler=asha",
        epoch_s=0.1,
    )
    sweep.when(sweep.kill_worker, EpochShown, trial=1, epoch=2)
    sweep.when(sweep.kill_thin_trials, EpochShown, trial=3, epoch=1)
    sweep.when(sweep.kill_thin_trials, TrialShown, number=5, state="complete")  # some actors are free
    outcome = sweep.run()
    assert (outcome.state, outcome.failed, outcome.lost) == ("complete", (), ())

    trials = sweep.store.load_trials()
    assert [trial.number for trial in trials] == list(range(9))
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    for trial in trials:
        epochs = [entry["epoch"] for entry in trial.epochs]
        assert epochs == list(range(1, len(epochs) + 1)) and len(trial.keys) == 3
        if trial.state == "complete":
            assert len(epochs) == 5 and set(sweep.ledger.get_many(trial.keys)) == set(trial.keys)
        else:
            assert len(epochs) >= 3, "nothing is stopped before 60 % of the epochs"
    assert_at_most_one_epoch_repeated(sweep, deaths=1)

    baselines = sweep.store.load_baselines()
    assert set(baselines) == {"zero_shot", "zero_step"}
    best = sorted((t for t in trials if t.state == "complete"), key=lambda t: -(t.value or 0))[:3]
    assert baselines["zero_step"]["point"] == best[0].point, "the winner before its first step"
    tested = {key for trial in best for key in trial.keys}
    tested |= {cell["key"] for row in baselines.values() for cell in row["cells"]}
    looks = sweep.store.load_test_evaluations()
    assert {key for look in looks for key in look["keys"]} == tested and len(looks) == 5
    last = max(trial.created_at for trial in trials)
    assert all(look["time"] > last for look in looks), "none before the last trial was proposed"
    assert_mlflow_has_one_run_each(sweep)

    trained = sweep.epochs()
    assert sweep.run() == Outcome() and sweep.epochs() == trained
    assert [type(event) for event in sweep.shown] == [SweepShown, PhaseShown], "Ray was not touched"


@pytest.mark.slow
def test_seeds_trained_in_stages_survive_deaths_and_an_interruption(
    shared_ray: Path, with_database: Path
) -> None:
    """About a minute: what the stages of one driver decide, the next one goes on from."""
    sweep = Sweep(
        with_database,
        shared_ray,
        "name=stages",
        "search.trials=9",
        "slots.count=2",
        "search.scheduler=seeds",
        epoch_s=0.2,
    )
    interrupt = Interrupt()
    sweep.when(sweep.kill_worker, EpochShown, trial=3, epoch=2)
    sweep.when(sweep.kill_thin_trials, EpochShown, trial=4, epoch=1)
    sweep.when(interrupt.request, EpochShown, trial=6, epoch=3)
    assert sweep.run(interrupt=interrupt).state == "interrupted"
    outcome = sweep.run()
    assert (outcome.state, outcome.failed, outcome.lost) == ("complete", (), ())

    trials = sweep.store.load_trials()
    assert [trial.number for trial in trials] == list(range(9))
    stages = {
        trial.number: [len(values) for epoch, values in reached(trial, 3) if epoch == 5] for trial in trials
    }
    for trial in trials:
        assert trial.state in ("complete", "pruned")
        whole = trial.state == "complete"
        assert (len(trial.keys) == 3) == whole == (stages[trial.number][-1:] == [3])
        assert whole == (trial.value is not None) == ("stopped_at" not in trial.attributes)
    assert [1] in stages.values(), "a trial was stopped after one seed"
    assert sweep.store.load_trials()[0].state == "complete"
    assert_at_most_one_epoch_repeated(sweep, deaths=2)


@pytest.mark.usefixtures("in_process")
def test_cancelled_failed_and_interrupted_trials_are_each_taken_up_as_they_should(
    shared_ray: Path, with_database: Path
) -> None:
    sweep = Sweep(
        with_database,
        shared_ray,
        "name=rerun",
        "search.trials=4",
        "slots.count=1",
        "finalists=1",
        epoch_s=0.5,
    )
    interrupt = Interrupt()
    diverges = shared_ray / "diverges"
    sweep.when(lambda: request_cancel(sweep.store, 0), EpochShown, trial=0, epoch=1)
    sweep.when(diverges.touch, TrialShown, number=1, state="running")
    sweep.when(diverges.unlink, TrialShown, number=1, state="failed")
    sweep.when(interrupt.request, EpochShown, trial=2, epoch=2)
    assert sweep.run(interrupt=interrupt).state == "interrupted"
    records = {trial.number: trial for trial in sweep.store.load_trials()}
    assert [records[n].state for n in range(3)] == ["pruned", "failed", "running"]
    assert records[0].attributes["stopped_by"] == "user"
    assert records[1].error == "training diverged"

    (shared_ray / "epoch_s").write_text("0.05")
    outcome = sweep.run()
    assert outcome.state == "complete"
    states = [trial.state for trial in sweep.store.load_trials()]
    assert states == ["pruned", "failed", "complete", "complete"]
    assert sweep.store.load_trial(2).params == records[2].params  # type: ignore[union-attr]
    assert_at_most_one_epoch_repeated(sweep, deaths=1)

    assert sweep.run(retry_failed=True).state == "complete"
    retried = sweep.store.load_trial(1)
    assert retried is not None and (retried.state, retried.attempts, retried.error) == ("complete", 2, None)
    assert_mlflow_has_one_run_each(sweep)


# Quick: test_splitting, test_joined and driver/test_trials say how cells are spread, told and recorded.
@pytest.mark.slow
def test_a_single_trial_is_spread_over_the_slots_and_told_as_one(
    shared_ray: Path, with_database: Path
) -> None:
    sweep = Sweep(
        with_database,
        shared_ray,
        "name=spread",
        "search.trials=1",
        "slots.count=2",
        "finalists=0",
        epoch_s=0.3,
    )
    assert sweep.run().state == "complete"
    (record,) = sweep.store.load_trials()
    assert record.attributes["parts"] == 2 and [cell["seed"] for cell in record.cells] == ["1", "2", "3"]
    assert [entry["epoch"] for entry in record.epochs] == [1, 2, 3, 4, 5]
    assert all(len(entry["values"]) == 3 for entry in record.epochs)
    assert set(sweep.epochs().values()) == {1}
    assert_mlflow_has_one_run_each(sweep)


# Quick: test_other_node says that a worker refuses, test_pool and test_session what becomes of its slot.
@pytest.mark.slow
def test_a_slot_with_other_data_is_left_out_and_the_user_is_told(
    shared_ray: Path, with_database: Path
) -> None:
    sweep = Sweep(
        with_database,
        shared_ray,
        "name=copies",
        "search.trials=2",
        "slots.count=2",
        "finalists=0",
        epoch_s=0.1,
    )
    (shared_ray / "other_data").touch()
    assert sweep.run().state == "complete"
    assert not (shared_ray / "other_data").exists(), "a worker had other data"
    trials = sweep.store.load_trials()
    assert [trial.state for trial in trials] == ["complete", "complete"]
    records = sweep.ledger.get_many(sweep.ledger.finished()).values()
    assert {record["cell"]["dataset"] for record in records} == {sweep.plan.data.manifest}
    (slot,) = sweep.store.load_invocations()[0].quarantined
    assert "has other images than study 'copies' was begun with" in slot["reason"]
    notes = [event.text for event in sweep.shown if isinstance(event, NoteShown)]
    assert any("is quarantined" in note and "other images" in note for note in notes)


@pytest.mark.usefixtures("in_process")
def test_an_end_waits_for_no_epoch(shared_ray: Path, with_database: Path) -> None:
    """Tune asks its actors to stop, which wait for news of an epoch: the pool tells them first."""
    sweep = Sweep(with_database, shared_ray, "name=long", "search.trials=2", "slots.count=2", epoch_s=600)
    interrupt = Interrupt()
    asked: list[float] = []

    def ask() -> None:
        while not list(sweep.thin_trials()):
            time.sleep(0.1)
        time.sleep(2)
        asked.append(time.monotonic())
        interrupt.request()

    sweep.when(threading.Thread(target=ask, daemon=True).start, TrialShown, number=0, state="running")
    assert sweep.run(interrupt=interrupt).state == "interrupted"
    assert time.monotonic() - asked[0] < DEADLINE, "else the process would be ended the hard way"
    assert [trial.state for trial in sweep.store.load_trials()] == ["running", "running"]


def assert_at_most_one_epoch_repeated(sweep: Sweep, *, deaths: int) -> None:
    repeated = Counter(key for (key, _), count in sweep.epochs().items() for _ in range(count - 1))
    assert all(count <= deaths for count in repeated.values()), repeated


def assert_mlflow_has_one_run_each(sweep: Sweep) -> None:
    """One run per trial and reference row, one per cell below it, each ended and found by its tag."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=sweep.uri)
    experiment = client.get_experiment_by_name(sweep.plan.study.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = {run.data.tags["trial"]: run for run in runs if run.data.tags["kind"] in ("trial", "baseline")}
    cells = [run for run in runs if run.data.tags["kind"] == "cell"]
    records = {str(trial.number): trial for trial in sweep.store.load_trials()}
    (study,) = [run for run in runs if run.data.tags["kind"] == "study"]
    assert study.info.status == "FINISHED"
    assert len(runs) == len(trials) + len(cells) + 1
    rows = {name.partition("-")[0] for name in set(trials) - set(records)}
    assert set(records) <= set(trials) and rows == {"zero_shot", "zero_step"}
    for number, record in records.items():
        own = [run for run in cells if run.data.tags["trial"] == number]
        assert Counter(run.data.tags["cell"] for run in own) == Counter(record.keys)
        assert all(run.data.tags["mlflow.parentRunId"] == trials[number].info.run_id for run in own)
        state = "cancelled" if record.attributes.get("stopped_by") == "user" else record.state
        ends = {"complete": "FINISHED", "failed": "FAILED", "pruned": "FINISHED", "cancelled": "KILLED"}
        assert trials[number].info.status == ends[state]
        assert trials[number].data.tags["state"] == state


@pytest.mark.slow
def test_a_damaged_finalist_is_trained_again_to_be_scored_and_a_failure_is_no_look(
    shared_ray: Path, with_database: Path
) -> None:
    options = ("name=damage", "search.trials=2", "slots.count=1", "finalists=1")
    sweep = Sweep(with_database, shared_ray, *options, epoch_s=0.01)
    assert sweep.run().unscored == {}
    (best,) = finalists(sweep.store.load_trials(), 1)
    key = best.keys[0]
    looks, trained = sweep.store.load_test_evaluations(), sweep.epochs()

    record = sweep.ledger.get(key)
    assert record is not None
    sweep.store.storage.write(path_of(key, WEIGHTS, record["files"][WEIGHTS]), b"torn")
    for cell in best.keys:
        sweep.store.storage.delete(f"cells/{cell}/{TEST}")
    (shared_ray / "diverges").write_text("")
    outcome = confirm_study(sweep.plan, options=Options(executor="stand_in:make"))
    (shared_ray / "diverges").unlink()
    assert set(outcome.unscored) == {str(best.number)} and "diverged" in outcome.unscored[str(best.number)]
    assert sweep.store.load_test_evaluations() == looks and sweep.ledger.tests(best.keys) == {}
    assert sweep.run().unscored == {}
    assert sweep.ledger.tests(best.keys).keys() == set(best.keys)
    assert sweep.ledger.get(key, verify=True) is not None
    assert [sorted(look["keys"]) for look in sweep.store.load_test_evaluations()[len(looks) :]] == [
        sorted(best.keys)
    ]
    assert {cell for cell, _ in sweep.epochs() - trained} == {key}, "nothing else was trained"
