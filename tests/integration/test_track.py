"""What a live run tells MLflow and what its records tell: the same, whatever happened in between."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.work.events import EpochReached, WorkEvent


@pytest.fixture
def stand_in(importable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that steers the pretended training."""
    import stand_in

    folder = tmp_path / "control"
    folder.mkdir()
    (folder / "epoch_s").write_text("0")
    monkeypatch.setattr(stand_in, "FOLDER", folder)
    yield folder


pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.mark.usefixtures("in_process")
def test_a_live_run_and_its_records_tell_the_same(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path
) -> None:
    from told_study import ToldStudy, story_of

    from orchestrator.study import Tracking
    from orchestrator.tracking.telling import tell_study

    def prune(study: ToldStudy, event: WorkEvent) -> None:
        if isinstance(event, EpochReached) and (event.item_id, event.epoch) == ("trial-1", 2):
            study.trials.stop_early("trial-1")
        if isinstance(event, EpochReached) and (event.item_id, event.epoch) == ("trial-2", 1):
            (stand_in / "diverges").touch()

    uri, other = database("own"), database("other")
    live = ToldStudy(tmp_path / "runs", uri, after=prune)
    live.search(3)
    (stand_in / "diverges").unlink()
    live.finish()
    told = live.close()
    assert (told.note, told.refused) == (None, 0)
    first = story_of(uri, "told", live.store.id)
    assert {run: first[run]["tags"]["state"] for run in ("trial/0", "trial/1", "trial/2")} == {
        "trial/0": "complete",
        "trial/1": "pruned",
        "trial/2": "failed",
    }
    assert (first["trial/1"]["status"], first["study"]["tags"]["winner"]) == ("FINISHED", "trial 0")
    assert sum("/cell/" in run for run in first) == 10 and "baseline/zero_shot" in first
    assert "test_accuracy_mean" in first["trial/0"]["metrics"]
    assert [step for step, _, _ in first["trial/1"]["metrics"]["val_accuracy_mean"]] == [1, 2]

    study = live.plan.study
    elsewhere = tell_study(study, live.store, live.ledger, Tracking(uri=other))
    assert (elsewhere.told.note, elsewhere.missing) == (None, ())
    assert story_of(other, "told", live.store.id) == first

    again = tell_study(study, live.store, live.ledger)
    assert again.told.note is None and story_of(uri, "told", live.store.id) == first, "nothing twice"
    shutil.rmtree(tmp_path / "runs" / "inflight")  # as clean may
    third = database("third")
    tell_study(study, live.store, live.ledger, Tracking(uri=third))
    assert story_of(third, "told", live.store.id) == first


@pytest.mark.usefixtures("in_process")
def test_a_live_comparison_and_its_records_tell_the_same(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path
) -> None:
    from told_study import ToldStudy, story_of

    from orchestrator.study import Tracking
    from orchestrator.tracking.telling import tell_study

    uri, other = database("own"), database("other")
    live = ToldStudy(tmp_path / "runs", uri, name="compare-told")
    assert live.compare("coop", "coop_mt", "zero_shot").note is None
    shown = story_of(uri, "compare-told", live.store.id)
    rows = {run: about for run, about in shown.items() if "/cell/" not in run and run != "study"}
    assert {run.split(" · ")[0] for run in rows} == {
        "baseline/CoOp (single-task)",
        "baseline/CoOp-MT",
        "baseline/ZeroShot",
    }
    assert all("test_accuracy_mean" in about["metrics"] for about in rows.values())
    assert tell_study(live.plan.study, live.store, live.ledger, Tracking(uri=other)).missing == ()
    assert story_of(other, "compare-told", live.store.id) == shown


@pytest.mark.usefixtures("in_process")
def test_a_resumed_study_tells_what_its_killed_driver_could_not(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path
) -> None:
    from told_study import ToldStudy, story_of

    from orchestrator.study import Tracking
    from orchestrator.tracking.telling import tell_study

    class Killed(BaseException):
        pass

    def kill(study: ToldStudy, event: WorkEvent) -> None:
        if isinstance(event, EpochReached) and (event.item_id, event.epoch) == ("trial-1", 2):
            raise Killed

    uri = database("own")
    first = ToldStudy(tmp_path / "runs", "http://127.0.0.1:9", after=kill)  # nobody listens
    with pytest.raises(Killed):
        first.search(2)
    first.trials.flush()
    first.lease.release()
    second = ToldStudy(tmp_path / "runs", uri)
    assert [folder.name for folder in first.outboxes.iterdir() if folder.is_dir()] == ["2"]
    second.search(2)
    second.finish()
    assert second.close().note is None
    shown = story_of(uri, "told", second.store.id)
    assert {shown[f"trial/{n}"]["status"] for n in range(3)} == {"FINISHED"}
    other = database("other")
    assert tell_study(second.plan.study, second.store, second.ledger, Tracking(uri=other)).missing == ()
    assert story_of(other, "told", second.store.id) == shown


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("epoch", [None, 2])
def test_a_driver_that_wakes_after_another_finished_leaves_mlflow_as_its_records_are(
    stand_in: Path,
    database: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int | None,
) -> None:
    from told_study import ToldStudy, story_of

    from orchestrator.study import Tracking
    from orchestrator.tracking.mlflow.writer import MlflowWriter
    from orchestrator.tracking.telling import tell_study

    uri, other = database("own"), database("other")
    stopped, wakes = threading.Event(), threading.Event()
    write = MlflowWriter.write

    def stop(self: MlflowWriter, operations: Any, *, late: bool = False) -> Any:
        """Stopped between the check of the fence and the write."""
        ends = [o["status"] for o in operations if o["op"] == "end" and o["run"] == "trial/0"]
        if "KILLED" in ends and not stopped.is_set():
            stopped.set()
            assert wakes.wait(120)
        return write(self, operations, late=late)

    class Stopped(BaseException):
        pass

    def kill(study: ToldStudy, event: WorkEvent) -> None:
        if isinstance(event, EpochReached) and (event.item_id, event.epoch) == ("trial-0", epoch):
            raise Stopped

    monkeypatch.setattr(MlflowWriter, "write", stop)
    first = ToldStudy(tmp_path / "runs", uri, after=kill)
    if epoch is None:
        first.trials.launch()  # and no more
    else:
        with pytest.raises(Stopped):
            first.search(1)
    assert first.tracker.flush(120)
    first.trials.close()  # its last words: the trial was interrupted
    assert stopped.wait(120)
    first.lease.release()
    second = ToldStudy(tmp_path / "runs", uri)
    second.search(3)
    second.finish()
    assert second.close().note is None
    shown = story_of(uri, "told", second.store.id)
    assert shown["trial/0"]["status"] == "FINISHED"
    wakes.set()
    told = first.tracker.close(120)
    assert told.note is not None and "Another driver" in told.note
    assert story_of(uri, "told", second.store.id) == shown
    tell_study(second.plan.study, second.store, second.ledger, Tracking(uri=other))
    assert story_of(other, "told", second.store.id) == shown


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("loss", ["experiment deleted", "runs deleted", "another database"])
def test_what_is_deleted_in_mid_study_comes_back_whole(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path, loss: str
) -> None:
    from mlflow import MlflowClient
    from told_study import ToldStudy, story_of

    uri, other = database("own"), database("other")

    def strike(study: ToldStudy, event: WorkEvent) -> None:
        if not (isinstance(event, EpochReached) and (event.item_id, event.epoch) == ("trial-1", 2)):
            return
        assert study.tracker.flush(300)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("told")
        assert experiment is not None
        if loss == "experiment deleted":
            client.delete_experiment(experiment.experiment_id)
        elif loss == "runs deleted":
            for run in client.search_runs([experiment.experiment_id]):
                if run.data.tags["mmap.run"].startswith("trial/1"):
                    client.delete_run(run.info.run_id)
        else:
            shutil.copy(database("new").removeprefix("sqlite:///"), uri.removeprefix("sqlite:///"))

    live = ToldStudy(tmp_path / "runs", uri, after=strike)
    live.search(3)
    live.finish()
    told = live.close()
    assert (told.delivered, told.refused, told.note) == (True, 0, None)

    from orchestrator.study import Tracking
    from orchestrator.tracking.telling import tell_study

    tell_study(live.plan.study, live.store, live.ledger, Tracking(uri=other))
    assert story_of(uri, "told", live.store.id) == story_of(other, "told", live.store.id)


@pytest.mark.usefixtures("in_process")
def test_two_studies_of_one_name_share_no_run(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path
) -> None:
    from told_study import ToldStudy, story_of

    uri = database("both")
    stories = []
    for folder, seeds in (("one", [1, 2]), ("two", [3, 4])):
        study = ToldStudy(tmp_path / folder, uri, f"seeds={seeds}", "search.trials=1")
        study.search(1)
        assert study.close().note is None
        stories.append((study, seeds))
    for study, seeds in stories:
        story = story_of(uri, "told", study.store.id)
        means = [epoch["mean"] for epoch in study.store.load_trials()[0].epochs]
        assert [value for _, value, _ in story["trial/0"]["metrics"]["val_accuracy_mean"]] == means
        assert {run["tags"]["seed"] for name, run in story.items() if "cell" in name} == set(map(str, seeds))


def make_older(folder: Path) -> None:
    """Leave of a study's records what the version before studies had ids wrote."""
    from orchestrator.ledger.documents import decode, encode

    for path in (folder / "study.json", *folder.glob("trials/*.json")):
        document = decode(path.read_bytes())
        document.pop("id", None)
        document.pop("study_id", None)
        path.unlink()
        path.with_name(f"{path.name.split('.')[0]}.json").write_bytes(encode(document))
    (folder / "study.copy.json").unlink()
    for part in ("told", "fences", "proposals"):
        shutil.rmtree(folder / part)


@pytest.mark.usefixtures("in_process")
def test_an_older_study_adopts_its_runs_and_not_those_of_another_of_its_name(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from told_study import ToldStudy, story_of

    uri = database("both")
    mine = ToldStudy(tmp_path / "mine", uri, "search.trials=1")
    mine.search(1)
    assert mine.close().note is None
    other = ToldStudy(tmp_path / "other", uri, "search.trials=1", "seeds=[3,4]")
    other.search(1)
    assert other.close().note is None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("told")
    assert experiment is not None
    before: dict[str, set[str]] = {mine.store.id: set(), other.store.id: set()}
    for run in client.search_runs([experiment.experiment_id]):
        before[run.data.tags["mmap.study"]].add(run.info.run_id)
        client.delete_tag(run.info.run_id, "mmap.study")  # as an older version left them
    former = mine.store.id
    for folder in ("mine", "other"):
        make_older(tmp_path / folder / "studies" / "told")
    resumed = ToldStudy(tmp_path / "mine", uri, "search.trials=2")
    resumed.search(1)
    assert resumed.close().note is None
    story = story_of(uri, "told", resumed.store.id)
    assert {run for run in story if "cell" not in run} == {"study", "trial/0", "trial/1"}
    found = client.search_runs([experiment.experiment_id], f"tags.`mmap.study` = '{resumed.store.id}'")
    assert former != resumed.store.id and before[former] <= {run.info.run_id for run in found}
    left = client.search_runs([experiment.experiment_id])
    assert sum("mmap.study" not in run.data.tags for run in left) == 4, "the other study's stay as they are"


def test_the_command_says_what_it_did(
    stand_in: Path, database: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from told_study import ToldStudy, story_of

    from orchestrator.cli.main import execute

    study = ToldStudy(tmp_path / "runs", "http://127.0.0.1:9", "search.trials=1")
    study.search(1)
    told = study.close(timeout=1)
    assert told.note is not None and "orchestrator track told" in told.note
    uri = database("to")
    arguments = ["track", "told", "--storage", str(tmp_path / "runs"), "--to", uri, "--json"]
    assert execute(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["missing"], said["told"]["refused"]) == (1, [], 0)
    assert story_of(uri, "told", study.store.id)["trial/0"]["status"] == "FINISHED"
    assert execute(["track", "told", "--storage", str(tmp_path / "runs"), "--to", "http://127.0.0.1:9"]) == 2
    assert "--to" in capsys.readouterr().err
