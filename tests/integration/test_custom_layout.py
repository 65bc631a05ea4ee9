"""The example of docs/custom_layout.md is what the page shows and trains where its file is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.sources import open_source
from mmap_model.errors import DatasetError
from orchestrator.cli.main import execute
from orchestrator.ledger import Ledger
from orchestrator.study import load_plan
from orchestrator.submission.request import needed_files

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "image_list.py"
NAME = "image_list.py:ImageList"

ELSEWHERE = """
import json, sys
from orchestrator.work.item import WorkItem
from orchestrator.execution.executor import Executor
item = WorkItem.from_dict(json.loads(sys.argv[1]))
told = []
executor = Executor(item.dataset, item.backbone, item.storage, threads=1, sources=item.sources)
executor.load()
executor.run(item, told.append)
assert told[-1].state == "complete", told[-1]
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two tasks of two classes with eight images each, and their table."""
    root = tmp_path / "images"
    root.mkdir()
    noise = np.random.default_rng(0)
    lines = ["task,class,file"]
    for task in ("field", "zoo"):
        for label, kind in enumerate(("house_sparrow", "wren")):
            for number in range(8):
                pixels = noise.integers(0, 128, (32, 32, 3)) + 127 * label
                Image.fromarray(pixels.astype(np.uint8)).save(root / f"{task}{label}{number}.png")
                lines.append(f"{task},{kind},{task}{label}{number}.png")
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run from, with the example in it."""
    folder = tmp_path / "here"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_pages_show_the_examples() -> None:
    for page, example in (
        ("custom_layout.md", EXAMPLE),
        ("custom_space.md", EXAMPLE.with_name("momentum.py")),
    ):
        assert f"```python\n{example.read_text()}```" in (DOCS / page).read_text()


def test_a_study_of_it_trains_where_its_file_is_not(images: Path, here: Path, tmp_path: Path) -> None:
    given = ["name=birds", f"dataset.name={NAME}", f"dataset.root={images}", f"storage={tmp_path / 'runs'}"]
    small = [
        "method=coop",
        "grouping=null",
        "space=[learning_rate]",
        "splits=[{shots: 2}]",
        "seeds=[1]",
        "largest_shots=2",
    ]
    few = ["splits=[{shots: 2}]", "largest_shots=2", "recipe.batch_size=4"]
    plan = load_plan("demo", [*given, *small, *few])
    assert [task.classes for task in plan.data.tasks] == [("house sparrow", "wren")] * 2
    assert needed_files("demo", plan.study) == {"image_list.py": here / "image_list.py"}
    item = plan.work_item(plan.study.point, item_id="i")
    assert item.sources == {"image_list.py": EXAMPLE.read_text()}
    command = [sys.executable, "-c", ELSEWHERE, json.dumps(item.to_dict())]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    ledger = Ledger(tmp_path / "runs")
    assert len(ledger.finished()) == 1


def test_commands_take_it_in_place_of_a_layout(
    images: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (images / "images.csv").open("a") as file:
        file.write("zoo,wren,gone.png\n")
    assert execute(["data", "check", NAME, f"dataset.root={images}", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "gone.png is listed and not there" in json.dumps(found)
    assert execute(["data", "check", NAME, f"dataset.root={images}", "--fix"]) == 0
    capsys.readouterr()
    assert len(open_source(DatasetSpec(name=NAME, root=str(images))).ids("zoo")) == 16


def test_what_is_prepared_is_found_again(images: Path, here: Path, tmp_path: Path) -> None:
    spec = DatasetSpec(name=NAME, root=str(images))
    store = tmp_path / "store"
    assert execute(["data", "prepare", NAME, f"dataset.root={images}", "--output", str(store)]) == 0
    stored = open_dataset(DatasetSpec(name=NAME, store=str(store)))
    direct = open_dataset(spec, tmp_path / "cache")
    assert stored.manifest == direct.manifest and stored.name == direct.name == "image_list"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("(FileSource)", "(object)"), ["no layout of that name", "derives from Source"]),
        (("class ImageList", "class Other"), ["no layout of that name"]),
        (("(FileSource)", "(Source)"), ["class_keys, ids", "derive from FileSource"]),
        (('name = "image_list"', 'name = "Image list"'), ["name is 'Image list'", "lower-case"]),
        (('name = "image_list"', 'name = "folder"'), ["'folder' is a layout of this package"]),
        (("spec: DatasetSpec)", "spec: DatasetSpec, root: str)"), ["from a DatasetSpec alone"]),
        (("import csv", "import csw"), ["fails on import", "csw"]),
    ],
)
def test_what_is_no_layout_is_refused_with_the_reason(
    images: Path, tmp_path: Path, change: tuple[str, str], words: list[str]
) -> None:
    path = tmp_path / "mine.py"
    text = EXAMPLE.read_text().replace(
        "sources.files import", "sources.base import Source\nfrom mmap_model.data.sources.files import"
    )
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(DatasetError) as caught:
        open_dataset(DatasetSpec(name=f"{path}:ImageList", root=str(images)))
    assert caught.value.where == "dataset.name"
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_name_that_is_not_known_says_how_to_give_a_layout() -> None:
    with pytest.raises(DatasetError) as caught:
        open_dataset(DatasetSpec(name="ofice_home"))
    assert "did you mean 'office_home'" in str(caught.value) and "file.py:MyLayout" in str(caught.value)
