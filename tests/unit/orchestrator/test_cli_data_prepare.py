"""``data prepare``: what it writes, what it says, and that studies find it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.content import task_contents
from orchestrator.cli.main import execute


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMAP_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for domain in ("art", "real"):
        for name in ("fan", "mug"):
            for number in range(3):
                path = tmp_path / "tree" / domain / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    return tmp_path / "tree"


def prepare(root: Path, *arguments: str) -> int:
    options = ["--side", "16", "--workers", "1", *arguments]
    return execute(["data", "prepare", "folder", f"dataset.root={root}", *options])


def test_a_prepared_dataset_is_found_and_is_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = DatasetSpec(name="folder", root=str(root))
    before = open_dataset(spec)
    contents = task_contents(before)
    assert {content.read for content in contents.values()} == {6}
    assert prepare(root, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 12 and found["default"] and found["side"] == 16
    assert found["bytes"]["evaluation"] >= 12 * 3 * 16 * 16
    after = open_dataset(spec)
    assert after.ready(16) and not before.ready(16)
    assert after.manifest == before.manifest and after.summary == before.summary
    assert task_contents(after) == contents, "a study may go on with the prepared images"
    assert prepare(root, "--json", "--verify") == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == found["sha256"]


def test_tasks_to_evaluate_may_be_chosen(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(root, "--evaluated", "art", "--json") == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert {name: task["evaluation"] for name, task in tasks.items()} == {"art": True, "real": False}
    assert prepare(root, "--evaluated", "arts") == 2
    assert "did you mean 'art'" in capsys.readouterr().err


def test_a_store_elsewhere_is_named_by_its_key(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "elsewhere"
    assert prepare(root, "--output", str(place), "--no-evaluation") == 0
    said = capsys.readouterr().out
    assert f"dataset.store={place}" in said.replace("\n", "") and "evaluation view none" in said
    stored = open_dataset(DatasetSpec(name="folder", store=str(place)))
    assert stored.manifest == open_dataset(DatasetSpec(name="folder", root=str(root))).manifest


def test_the_credentials_of_a_place_elsewhere_are_not_shown(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uploaded: list[str] = []
    monkeypatch.setattr("mmap_model.data.prepared.upload", lambda folder, uri, advance: uploaded.append(uri))
    place = "s3://AKIA:12/3@4@bucket/store?region=eu"
    for options in ((), ("--json",)):
        assert prepare(root, "--output", place, *options) == 0
        said = "".join(capsys.readouterr())
        assert "s3://bucket/store?region=eu" in said and "AKIA" not in said and "4@" not in said
    assert uploaded == [place, place]


def test_wrong_input_is_said_before_anything_is_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["data", "prepare", "foldr"]) == 2
    assert "did you mean 'folder'" in capsys.readouterr().err
    assert execute(["data", "prepare", "folder", "dataset.root=/nowhere"]) == 2
    assert "/nowhere is not a folder" in capsys.readouterr().err
    assert prepare(root, "--side", "100000000") == 2
    assert "--no-evaluation" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_preparing_imports_no_torch(root: Path) -> None:
    code = (
        "import sys; from orchestrator.cli.main import execute; assert execute(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    arguments = ["data", "prepare", "folder", f"dataset.root={root}", "--side", "8", "--workers", "1"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
