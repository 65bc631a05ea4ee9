"""An artefact's folder is whole or not there, and says when it is not what was written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmap_model.errors import CheckpointError, ConfigurationError
from mmap_model.inference.artefact import (
    DESCRIPTION,
    Artefact,
    ArtefactSource,
    BackboneEntry,
    MethodEntry,
    PreprocessingEntry,
    TaskEntry,
)
from mmap_model.preprocessing import CLIP_PREPROCESSING, OPENAI_MEAN, OPENAI_STD, Preprocessing, Resize


def artefact(**changed: Any) -> Artefact:
    values: dict[str, Any] = {
        "kind": "prompts",
        "created_at": "2026-11-26T12:00:00+00:00",
        "tasks": (
            TaskEntry(name="photo", classes=("dog", "café"), validation_accuracy=0.5),
            TaskEntry(name="sketch", classes=("dog",)),
        ),
        "preprocessing": PreprocessingEntry.of(CLIP_PREPROCESSING, 16),
        "logit_scale": (14.0, 14.0),
        "backbone": BackboneEntry(model="symbols", fingerprint="0" * 32),
        "method": MethodEntry(name="mmap", settings={"prompt_length": 2}, template="a {}."),
        "text_tower": True,
        "source": ArtefactSource(study="demo", trial=3, cells=("a", "b"), validation={"accuracy": 0.5}),
        "versions": {"torch": "2.13.0", "commit": None},
    }
    return Artefact(**(values | changed))


def fill(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"weights")
    (folder / "words").write_text("words")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = artefact().write(tmp_path / "out", fill)
    assert Artefact.read(tmp_path / "out") == written
    assert set(written.files) == {"inner/weights", "words"} and written.files["words"].bytes == 5
    text = (tmp_path / "out" / DESCRIPTION).read_text(encoding="utf-8")
    assert "café" in text and list(json.loads(text)) == sorted(json.loads(text))


def test_all_six_keys_of_the_preprocessing_are_said_also_where_they_are_clips_own(tmp_path: Path) -> None:
    artefact().write(tmp_path / "out", fill)
    said = json.loads((tmp_path / "out" / DESCRIPTION).read_text())["preprocessing"]
    assert said == {
        "mean": list(OPENAI_MEAN),
        "std": list(OPENAI_STD),
        "size": 16,
        "resize_mode": "shortest",
        "interpolation": "bicubic",
        "fill_color": 0,
    }


@pytest.mark.parametrize("resize", [Resize(), Resize("longest", "bilinear", 7), Resize("squash")])
def test_the_way_of_resizing_survives(resize: Resize) -> None:
    assert PreprocessingEntry.of(Preprocessing(resize=resize), 8).resize == resize


@pytest.mark.parametrize("change", [b"weightz", b"weight", b"weights!", None])
def test_a_changed_or_missing_file_is_an_error_that_names_it(tmp_path: Path, change: bytes | None) -> None:
    artefact().write(tmp_path / "out", fill)
    path = tmp_path / "out" / "inner" / "weights"
    path.unlink() if change is None else path.write_bytes(change)
    with pytest.raises(CheckpointError, match="weights") as caught:
        Artefact.read(tmp_path / "out")
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"kind": 3}, "expected str"),
        ({"colour": "red"}, "colour"),
        ({"tasks": []}, "task"),
        ({"tasks": [{"name": "photo", "classes": []}]}, "classes"),
        ({"logit_scale": [1.0]}, "logit_scale"),
        ({"files": {"../out": {"sha256": "", "bytes": 1}}}, "not a file of the folder"),
        ({"files": {"/etc/hostname": {"sha256": "", "bytes": 1}}}, "not a file of the folder"),
        ({"task_features": "gone"}, "gone"),
    ],
)
def test_a_damaged_description_is_an_error_that_says_what_is_wrong(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    artefact().write(tmp_path / "out", fill)
    path = tmp_path / "out" / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=said) as caught:
        Artefact.read(tmp_path / "out")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_description_that_is_no_description_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / DESCRIPTION).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match="damaged"):
        Artefact.read(tmp_path)


def test_a_folder_or_file_without_a_description_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(CheckpointError, match="orchestrator export"):
            Artefact.read(place)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(CheckpointError, match="exists already"):
        artefact().write(tmp_path, fill)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artefact().write(tmp_path / "out", fails)
    assert list(tmp_path.iterdir()) == []
    artefact().write(tmp_path / "out", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tasks_are_found_by_name_and_index_and_others_are_refused() -> None:
    found = artefact()
    assert [found.task("sketch"), found.task(1), found.task("photo")] == [1, 1, 0]
    for unknown in ("painting", 2, -1):
        with pytest.raises(ConfigurationError, match="photo, sketch"):
            found.task(unknown)


@pytest.fixture(scope="module")
def imported() -> Callable[[str], set[str]]:
    def modules(statement: str) -> set[str]:
        code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    return modules


@pytest.mark.parametrize(
    "statement",
    ["import mmap_model", "from mmap_model.inference import Artefact; Artefact.read"],
)
def test_importing_the_package_or_an_artefact_imports_no_torch(
    imported: Callable[[str], set[str]], statement: str
) -> None:
    found = imported(statement)
    assert "mmap_model" in found
    assert not {"torch", "open_clip", "ray", "PIL", "safetensors"} & found
