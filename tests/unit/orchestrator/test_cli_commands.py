from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mmap_model.data.dataset import default_cache_dir
from mmap_model.plain import to_plain
from orchestrator.cli.main import execute
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.ledger.cell_records import COPY, RECORD
from orchestrator.ledger.documents import encode
from orchestrator.study import load_plan


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "name: tiny\nspace:\n  - name: scale_init\n  - name: learning_rate\nsettings: {source_cols: 32}\n"
    )
    return path


@pytest.fixture
def no_known_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows no weights; images that were rendered before are in it, as that takes seconds."""
    images = default_cache_dir()
    images.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / images.name).symlink_to(images)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def stored(file: Path) -> StudyStore:
    """A study with a complete and a running trial, and no cell records."""
    plan = load_plan(str(file))
    store = StudyStore(plan.study.storage, "tiny")
    store.save_study(plan.study.to_plain())
    point = plan.space.replay(plan.first[0])
    epochs = [{"epoch": 2, "mean": 0.25, "values": [0.25]}]
    common = {"params": dict(plan.first[0]), "point": point.to_dict()}
    store.save_trial(TrialRecord(number=0, state="complete", value=0.4, device_seconds=30.0, **common))
    store.save_trial(TrialRecord(number=1, state="running", epochs=epochs, **common))
    return store


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return tuple(" ".join(t.replace("│", " ").split()) for t in (captured.out, captured.err))  # type: ignore[return-value]


def test_plan_tells_space_counts_and_cells(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", str(file), "seeds=[1, 2]", "search.trials=5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["space"] == {"points": 2, "exact": True, "continuous": ["lr"]}
    assert found["parameters"] == {"least": 10_920, "most": 10_920, "max_params": None}
    assert found["cells"] == 5 * 1 * 2
    assert found["device_hours"] is None
    assert found["labels"] == {"6-shot": {"train": 6, "validation": 4}}


def test_plan_says_that_nothing_has_started(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", str(file)]) == 0
    out, _ = shown(capsys)
    assert "nothing has started" in out and "10 920" in out and "unknown: no cell like these" in out
    assert not (file.parent / "runs").exists()


def test_bad_study_exits_with_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", str(file), "search.trails=3"]) == 2
    _, err = shown(capsys)
    assert "search.trails" in err and "'trials'" in err


def test_unknown_command_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["swep", "demo"]) == 2
    assert "sweep" in shown(capsys)[1]


def test_status_tells_how_far_it_is(
    stored: StudyStore, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["status", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == {"asked": 20, "complete": 1, "pruned": 0, "failed": 0, "running": 1}
    assert found["running"] == [{"number": 1, "seeds": 3, "epoch": 2, "epochs": 5, "mean": 0.25}]
    assert found["best"] == {"number": 0, "mean": 0.4}
    assert found["driver"] is None
    assert execute(["status", "tiny", "--storage", "runs"]) == 0
    assert "trial 1: epoch 2 of 5, 25.0 %" in shown(capsys)[0]


def test_status_names_a_live_driver(stored: StudyStore, capsys: pytest.CaptureFixture[str]) -> None:
    lease = stored.driver_lease()
    lease.take()
    try:
        assert execute(["status", "tiny", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["driver"]["pid"] > 0
    finally:
        lease.release()


def test_results_of_a_study_without_finished_cells(
    stored: StudyStore, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["results", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["winner"] is None
    assert execute(["results", str(file)]) == 0
    assert "No trial is complete yet." in shown(capsys)[0]


def test_results_name_a_damaged_cell_in_one_line(
    stored: StudyStore, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    key, other = "a" * 32, "b" * 32
    trial = stored.load_trial(0)
    assert trial is not None
    trial.cells = [{"key": key, "split": "6-shot", "seed": "1"}]
    stored.save_trial(trial)
    for name in (RECORD, COPY):
        stored.storage.write(f"cells/{key}/{name}", encode({"key": other, "files": {}}))
    assert execute(["results", str(file)]) == 0
    said = shown(capsys)[0]
    assert said.count("Damaged: ") == 1 and f"it is of cell {other[:12]}, not of {key[:12]}" in said


@pytest.mark.parametrize("command", ["status", "results"])
def test_a_study_that_was_never_run(command: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([command, str(file)]) == 2
    _, err = shown(capsys)
    assert "'tiny' was never run" in err and "orchestrator sweep" in err
    assert execute([command, "tinny", "--storage", "runs"]) == 2


def test_run_refuses_a_cell_that_nobody_knows(
    stored: StudyStore, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", str(file), "--cell", "0123"]) == 2
    _, err = shown(capsys)
    assert "--cell" in err and "no cell begins with '0123'" in err


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("scale_init", ["--set", "'scale_init'"]),
        ("scale_init=7", ["scale_init", "7", "null, 0.02"]),
        ("b=4", ["'b'"]),
    ],
)
def test_run_refuses_values_outside_the_space(
    value: str, words: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", str(file), "--set", value]) == 2
    _, err = shown(capsys)
    assert all(word in err for word in words)


def test_ui_of_a_server_says_where_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["ui", str(file), "tracking.uri=http://mlflow.example:5000"]) == 0
    assert "http://mlflow.example:5000" in capsys.readouterr().out


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["schema"]) == 0
    assert "space" in json.loads(capsys.readouterr().out)["properties"]


def test_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.study.load_plan", interrupt)
    assert execute(["plan", str(file)]) == 130


def test_a_file_that_ends_early_is_not_taken_for_ctrl_c(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    def read(*_: object, **__: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr("orchestrator.study.load_plan", read)
    with pytest.raises(EOFError, match="Ran out of input"):
        execute(["plan", str(file)])


@pytest.mark.usefixtures("no_known_weights")
def test_empty_weights_are_named_and_not_taken_for_ctrl_c(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.pt").write_bytes(b"")
    backbone = ["backbone.model=ViT-B-16-quickgelu", "backbone.pretrained=./w.pt"]
    for command in ("profile", "run"):
        assert execute([command, str(file), *backbone]) == 2
        assert "w.pt is empty (0 bytes)" in shown(capsys)[1]


def test_a_broken_connection_is_not_taken_for_a_closed_pipe(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    def send(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "the server is gone")

    monkeypatch.setattr("sys.stdout", sys.stdout)  # typer replaces both
    monkeypatch.setattr("sys.stderr", sys.stderr)
    monkeypatch.setattr("orchestrator.study.load_plan", send)
    monkeypatch.setattr("orchestrator.cli.main._reader_is_gone", lambda: False)
    with pytest.raises(BrokenPipeError, match="the server is gone"):
        execute(["plan", str(file)])


def test_output_that_nobody_reads_ends_without_a_word() -> None:
    code = "import sys\nfrom orchestrator.cli.main import main\nsys.argv = ['orchestrator', 'schema']\nmain()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_a_question_without_an_answer_is_not_taken_for_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*_: object, **__: object) -> None:
        typer.confirm("Remove?")

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("orchestrator.study.load_plan", ask)
    assert execute(["plan", str(file)]) == 2
    assert "standard input is at its end" in shown(capsys)[1]


def test_what_cannot_be_proven_of_weights_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    from mmap_model.errors import BackboneWarning
    from orchestrator.cli.main import _show_warning

    _show_warning(BackboneWarning("nothing in [w.pt] says"), BackboneWarning, "file.py", 3)
    assert shown(capsys)[1] == "Warning: nothing in [w.pt] says"


def test_points_are_json(file: Path) -> None:
    plan = load_plan(str(file))
    assert json.dumps(to_plain(plan.work_item(plan.space.replay(plan.first[0]), item_id="x")))


@pytest.mark.usefixtures("no_known_weights")
def test_planning_fetches_no_weights(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object) -> str:
        raise AssertionError("plan loaded a CLIP")

    monkeypatch.setattr("mmap_model.backbone_identity._computed", load)
    backbone = ["backbone.model=ViT-B-16-quickgelu", "backbone.pretrained=openai"]
    assert execute(["plan", str(file), *backbone, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device_hours"] is None


def test_plan_refuses_weights_of_another_shape(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"visual.conv1.weight": np.zeros((8, 3, 4, 4), np.float32)}, "other.safetensors")
    backbone = "backbone={model: ViT-B-16-quickgelu, pretrained: other.safetensors, activation: quickgelu}"
    assert execute(["plan", str(file), backbone]) == 2
    said = shown(capsys)[1]
    assert "backbone.pretrained" in said and "other.safetensors" in said
