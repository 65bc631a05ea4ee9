"""What every tracker must keep. A new one adds a row to TRACKERS."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmap_model import references
from orchestrator.tracking import Backend, Connection, Tracker, check_tracking, find_backend
from orchestrator.tracking import operations as op
from orchestrator.tracking.narration import Narration
from orchestrator.work.events import CellsKnown, CellState, EpochReached

JSON_LINES = f"{Path(__file__).parents[2] / 'docs' / 'examples' / 'json_lines.py'}:JsonLines"
AT = "2026-11-21T12:00:00.000000+00:00"

Shown = dict[str, dict[str, Any]]
"""By run: status, params, tags, and metrics as {name: {step: value}}."""


def shown_by_mlflow(to: Connection) -> Shown:
    from mlflow import MlflowClient

    client = MlflowClient(to.uri)
    experiment = client.get_experiment_by_name(to.experiment)
    assert experiment is not None
    runs: Shown = {}
    for run in client.search_runs([experiment.experiment_id]):
        name = run.data.tags["mmap.run"]
        assert name not in runs, "a run is there twice"
        points = {metric: client.get_metric_history(run.info.run_id, metric) for metric in run.data.metrics}
        assert all(len({p.step for p in curve}) == len(curve) for curve in points.values()), "a point twice"
        runs[name] = {
            "status": run.info.status,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {metric: {p.step: p.value for p in curve} for metric, curve in points.items()},
        }
    return runs


def shown_by_json_lines(to: Connection) -> Shown:
    reference = references.parse(JSON_LINES)
    assert reference is not None
    kind = references.resolve(reference, where="", example="")
    runs_of = references.resolve(references.Reference(reference.location, "runs_of"), where="", example="")
    found: Shown = runs_of(Path(kind.place(to.uri)) / f"{to.experiment}.{to.study}.jsonl")
    return found


TRACKERS: dict[str, tuple[str, str | None, Callable[[Connection], Shown]]] = {
    "mlflow": ("sqlite:///{folder}/mlflow.db", None, shown_by_mlflow),
    "json_lines": ("jsonl:{folder}/runs", JSON_LINES, shown_by_json_lines),
}


class Subject:
    """One tracker, told by drivers whose fences go up."""

    def __init__(self, folder: Path, name: str) -> None:
        uri, backend, self._shown = TRACKERS[name]
        self.folder = folder
        uri = uri.format(folder=folder)
        self.to = Connection(uri=uri, experiment="demo", study="a1", backend=backend)
        check_tracking(uri, backend)
        self.kind = find_backend(uri, backend)

    def connect(self) -> Backend:
        return self.kind.connect(self.to)

    def tracker(self, fence: int = 1, **about: Any) -> Tracker:
        narration = Narration(study="demo")
        outboxes = self.folder / "outbox"
        return Tracker(self.to.uri, outboxes, connect=self.connect, narration=narration, fence=fence, **about)

    def delete(self) -> None:
        """As a user may, behind its back."""
        if self.to.backend is not None:
            shutil.rmtree(self.kind.place(self.to.uri) or "")
            return
        from mlflow import MlflowClient

        client = MlflowClient(self.to.uri)
        for experiment in client.search_experiments():
            for run in client.search_runs([experiment.experiment_id]):
                client.delete_run(run.info.run_id)

    def shown(self) -> Shown:
        return self._shown(self.to)


@pytest.fixture(params=sorted(TRACKERS))
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return Subject(tmp_path, request.param)


def tell(tracker: Tracker, state: str = "complete") -> None:
    """A trial of one cell and two epochs."""
    cell = CellState(key="k", split="3-shot", seed="1", parameters=9)
    tracker.trial_started(0, {"method": "mmap", "recipe": {"lr": 0.1}}, started_at=AT)
    tracker.event(0, CellsKnown(item_id="", cells=[cell]))
    for epoch in (1, 2):
        mean = epoch / 10
        reports = {"k": {"epoch": epoch, "at": AT, "accuracy": mean}}
        tracker.event(0, EpochReached(item_id="", epoch=epoch, mean=mean, values=[mean], reports=reports))
    error = "it diverged" if state == "failed" else None
    tracker.trial_ended(0, state, ended_at=AT, error=error)


def test_a_trial_is_shown_with_its_cells_and_no_more_when_it_is_told_again(subject: Subject) -> None:
    for fence in (1, 2):
        tracker = subject.tracker(fence)
        tell(tracker)
        assert tracker.close(300).note is None
        shown = subject.shown()
        assert set(shown) == {"trial/0", "trial/0/cell/k"}
        trial, cell = shown["trial/0"], shown["trial/0/cell/k"]
        assert trial["status"] == "FINISHED" and trial["params"]["recipe.lr"] == "0.1"
        assert trial["metrics"]["val_accuracy_mean"] == {1: 0.1, 2: 0.2}
        assert cell["metrics"]["val_accuracy"] == {1: 0.1, 2: 0.2} and cell["tags"]["seed"] == "1"


def test_a_trial_that_is_taken_up_again_no_longer_shows_how_it_had_ended(subject: Subject) -> None:
    first = subject.tracker()
    tell(first, "failed")
    assert first.close(300).note is None
    failed = subject.shown()["trial/0"]
    assert failed["status"] == "FAILED" and failed["tags"]["error"] == "it diverged"
    second = subject.tracker(2)
    second.trial_started(0, {"method": "mmap", "recipe": {"lr": 0.1}}, started_at=AT)
    assert second.close(300).note is None
    again = subject.shown()["trial/0"]
    assert again["status"] == "RUNNING" and not {"state", "error"} & set(again["tags"])


def test_what_comes_late_says_nothing_of_a_run_s_status(subject: Subject) -> None:
    backend = subject.connect()
    backend.open()
    begin = op.start("trial/0", name="trial 0", time=0)
    assert backend.write([begin, op.end("trial/0", "complete", 1)]) == type(backend.write([]))()
    backend.write([begin], late=True)
    assert subject.shown()["trial/0"]["status"] == "FINISHED"


def test_it_remembers_up_to_where_it_was_told_and_is_told_the_rest(subject: Subject) -> None:
    first = subject.tracker()
    tell(first)
    assert first.close(300).note is None and first.complete
    assert subject.connect().open() == "1"
    told = []
    second = subject.tracker(2, told_up_to="1", story=lambda runs: iter(told.append(runs) or ()))  # type: ignore[func-returns-value]
    assert second.close(300).note is None and not told, "nothing had been lost"
    assert subject.connect().open() == "2"


def test_what_somebody_deleted_is_whole_once_it_is_told_again(subject: Subject) -> None:
    first = subject.tracker()
    tell(first)
    assert first.close(300).note is None
    shown = subject.shown()
    subject.delete()
    second = subject.tracker(2, told_up_to="1")
    tell(second)
    assert second.close(300).note is None and subject.shown() == shown
