"""An MLflow model says what was recorded, and needs torch, numpy, Pillow and MLflow alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

import mmap_model
from mmap_model.errors import ConfigurationError
from mmap_model.inference.artefact import DESCRIPTION, Artefact, file_entry
from mmap_model.plain import to_plain
from orchestrator.cli.main import execute
from orchestrator.exporting import checking
from orchestrator.exporting.checking import check
from orchestrator.exporting.choice import choose
from orchestrator.exporting.scoring import ScoringJob, answer
from orchestrator.exporting.winner import Winner
from orchestrator.exporting.writing import write
from orchestrator.face.stored import Stored

PROGRAM = "model/artifacts/classifier/model.pt2"


@pytest.fixture(scope="module")
def study(trained) -> Stored:  # type: ignore[no-untyped-def]
    return trained()


@pytest.fixture(scope="module")
def winner(study: Stored) -> Winner:
    (chosen,) = choose(study.store, study.ledger)
    return Winner(study, chosen, None)


@pytest.fixture(scope="module")
def folder(winner: Winner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "x"
    write(winner, folder, "mlflow")
    return folder


def score_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score in this process: another one takes seconds to start, and the command's test starts it."""
    monkeypatch.setattr(checking, "_answer", lambda job: answer(ScoringJob.read(job)))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores in this process."""
    score_here(monkeypatch)


def photographs_of(photographs: Path, task: str) -> list[Path]:
    return sorted((photographs / task).rglob("*.jpg"))[:5]


def test_it_agrees_with_the_records_and_a_changed_program_does_not(
    winner: Winner, folder: Path, here: None
) -> None:
    found = check(winner, folder)
    assert found.holds and found.agreement is not None, found.in_words()
    assert found.agreement.images == {"photo": 6, "sketch": 6}

    program = torch.export.load(folder / PROGRAM)
    whole = (folder / PROGRAM).read_bytes()
    description = (folder / DESCRIPTION).read_text(encoding="utf-8")
    name = next(name for name in program.state_dict if name.endswith("class_features"))
    program.state_dict[name].mul_(1.01)
    torch.export.save(program, folder / PROGRAM)
    try:
        assert "hash" in check(winner, folder).in_words()
        changed = json.loads(description)
        changed["files"][PROGRAM] = to_plain(file_entry(folder / PROGRAM))
        (folder / DESCRIPTION).write_text(json.dumps(changed), encoding="utf-8")
        hidden = check(winner, folder)
        assert not hidden.holds and "It differs from" in hidden.in_words()
    finally:
        (folder / PROGRAM).write_bytes(whole)
        (folder / DESCRIPTION).write_text(description, encoding="utf-8")


def test_it_holds_no_pickle_no_project_and_no_place_of_this_machine(folder: Path, winner: Winner) -> None:
    artefact = Artefact.read(folder)
    names = set(artefact.files)
    assert artefact.kind == "mlflow" and artefact.source.cells == (winner.chosen.key,)
    assert artefact.task_features in names and not artefact.text_tower
    assert not [name for name in names if name.endswith((".pkl", ".toml", ".lock", ".pyc"))]
    for name in names - {PROGRAM}:
        content = (folder / name).read_bytes()
        for place in (str(folder.parent), str(Path.cwd()), "/tmp/", str(Path.home())):
            assert place.encode() not in content, (name, place)
    required = (folder / "model" / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in required] == ["torch", "numpy", "pillow", "mlflow"]
    assert all("+" not in line and line.count("==") == 1 for line in required)


def test_it_runs_where_this_software_is_not(folder: Path, photographs: Path) -> None:
    files = photographs_of(photographs, "sketch")
    code = f"""
import sys
for name in ("mmap_model", "orchestrator", "search_spaces", "cluster", "open_clip", "safetensors", "ray"):
    sys.modules[name] = None
import mlflow, pandas, json
model = mlflow.pyfunc.load_model({str(folder / "model")!r})
files = {[str(file) for file in files]!r}
given = pandas.DataFrame({{"image": [open(f, "rb").read() for f in files], "task": ["sketch"] * len(files)}})
print(json.dumps(model.predict(given).to_dict("records")))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder.parent)
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout.splitlines()[-1])
    wanted = list(mmap_model.load(folder).predict(files, task="sketch"))
    assert [one["label"] for one in answers] == [one.label for one in wanted]
    for one, known in zip(answers, wanted, strict=True):
        assert one["probability"] == pytest.approx(known.probabilities[0], abs=1e-5)
        assert list(one["probabilities"]) == list(known.labels)
        assert [*one["probabilities"].values()] == pytest.approx(list(known.probabilities), abs=1e-5)


def test_tasks_are_mixed_and_top_is_a_parameter(folder: Path, photographs: Path) -> None:
    model = mlflow.pyfunc.load_model(str(folder / "model"))
    file = photographs_of(photographs, "photo")[0].read_bytes()
    given = pd.DataFrame({"image": [file, file], "task": ["photo", "sketch"]})
    both = model.predict(given, params={"top": 1})
    assert [len(found) for found in both["probabilities"]] == [1, 1]
    for row, task in enumerate(given["task"]):
        alone = model.predict(given[given["task"] == task].reset_index(drop=True), params={"top": 1})
        assert alone["label"][0] == both["label"][row]
        assert alone["probability"][0] == pytest.approx(both["probability"][row], abs=1e-5)


@pytest.mark.parametrize(
    ("images", "task", "top", "said"),
    [
        ([b"none"], "photo", 5, "image 1 cannot be decoded"),
        ([], "painting", 5, "no task 'painting'; use one of photo, sketch"),
        ([], "photo", 0, "top is 0"),
    ],
)
def test_what_cannot_be_classified_is_refused_by_name(
    folder: Path, photographs: Path, images: list[bytes], task: str, top: int, said: str
) -> None:
    model = mlflow.pyfunc.load_model(str(folder / "model"))
    good = photographs_of(photographs, "photo")[0].read_bytes()
    given = pd.DataFrame({"image": [good, *images], "task": [task] * (1 + len(images))})
    with pytest.raises(MlflowException, match=said):
        model.predict(given, params={"top": top})


def test_the_task_may_be_left_out_where_there_is_one(
    study: Stored, tmp_path: Path, photographs: Path
) -> None:
    (chosen,) = choose(study.store, study.ledger)
    write(Winner(study, chosen, ["sketch"]), tmp_path / "x", "mlflow")
    model = mlflow.pyfunc.load_model(str(tmp_path / "x" / "model"))
    file = photographs_of(photographs, "sketch")[0]
    found = model.predict(pd.DataFrame({"image": [file.read_bytes()]}))
    assert found["label"][0] == next(iter(mmap_model.load(tmp_path / "x").predict(file))).label


def test_an_unknown_format_is_refused_with_those_there_are(winner: Winner, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="mlfow") as refused:
        write(winner, tmp_path / "x", "mlfow")
    assert "mlflow" in str(refused.value.fix) and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("mlflow", "model/artifacts/classifier/classify.py", "It differs from"),
        ("hf", "classify.py", "the program and the tensors give probabilities that are"),
    ],
)
def test_the_command_exits_by_what_the_check_says(
    study: Stored,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    code: str,
    said: str,
) -> None:
    if kind != "mlflow":
        score_here(monkeypatch)
    root, folder = str(study.store.storage.root), tmp_path / "x"
    command = ["export", "made", "--storage", root, "--format", kind, "--out", str(folder)]
    assert execute([*command, "--check"]) == 0, capfd.readouterr().err
    assert "every label agrees" in capfd.readouterr().out
    text = (folder / code).read_text(encoding="utf-8")
    score_here(monkeypatch)
    filter_, other = '"bicubic": Image.Resampling.BICUBIC', '"bicubic": Image.Resampling.BOX'
    assert filter_ in text
    (folder / code).write_text(text.replace(filter_, other), encoding="utf-8")
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    description["files"][code] = to_plain(file_entry(folder / code))
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    assert execute([*command, "--check"]) == 1
    assert said in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize("kind", ["mlflow", "hf"])
def test_other_commands_take_it_as_any_artefact(
    winner: Winner, tmp_path: Path, photographs: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    write(winner, tmp_path / "x", kind)
    files = [str(file) for file in photographs_of(photographs, "photo")]
    out = tmp_path / "labels.jsonl"
    assert execute(["predict", str(tmp_path / "x"), *files, "--task", "photo", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    wanted = mmap_model.load(tmp_path / "x").predict(files, task="photo")
    assert [row["label"] for row in rows] == [one.label for one in wanted]
