"""A folder in which everything is there that pages name: studies, images, an artefact, custom code."""

from __future__ import annotations

import json
import runpy
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.ledger.documents import decode, encode

ROOT = Path(__file__).parents[3]
RECORDS = ROOT / "tests" / "records"
WRITTEN = "/tmp/records"
"""Where the records were written, and where their studies look for the images."""
TASKS, IMAGES = ("art", "indoor", "outdoor", "photo", "sketch"), 16
CLASSES = ("anchor", "bell", "cup", "door", "egg", "fan", "gate", "hat", "ink", "jar", "key", "leaf")
"""As many as make an epoch of the demo's three shots two steps."""


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, tiny_artefact: Path) -> Path:
    """A finished study of two trials, ``photos``, ``photos.yaml``, ``birds.yaml``, ``winner``, examples."""
    folder = tmp_path_factory.mktemp("pages") / "here"
    folder.mkdir()
    with tarfile.open(RECORDS / "c52b462.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    for file in folder.glob("*.yaml"):
        file.write_text(file.read_text("utf-8").replace(WRITTEN, str(folder)), "utf-8")
    for file in folder.glob("runs/studies/*/study*.json"):
        study = json.dumps(decode(file.read_bytes())).replace(WRITTEN, str(folder))
        file.write_bytes(encode(json.loads(study)))
    runpy.run_path(str(RECORDS / "images.py"))["make_images"](folder / "made" / "images")
    for number in range(IMAGES):
        rng = np.random.Generator(np.random.PCG64(number))
        for task in TASKS:
            for name in CLASSES:
                path = folder / "photos" / task / name / f"{number:03d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(folder / "photos" / "photo" / "key" / "001.jpg", folder / name)
    birds = folder / "data" / "birds"
    birds.mkdir(parents=True)
    (birds / "photos").symlink_to(folder / "photos")
    lines = [
        f"{task},{name},photos/{task}/{name}/{number:03d}.jpg\n"
        for task in TASKS
        for name in CLASSES
        for number in range(IMAGES)
    ]
    (birds / "images.csv").write_text("task,class,file\n" + "".join(lines), "utf-8")
    (folder / "photos.yaml").write_text(on_the_small_clip(study_in("README.md")), "utf-8")
    (folder / "birds.yaml").write_text(
        "name: birds\nsettings: {source_cols: 32}\nspace: [learning_rate]\n", "utf-8"
    )
    shutil.copytree(tiny_artefact.parent / "clip", folder / "clip")
    shutil.copytree(tiny_artefact, folder / "winner")
    for example in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(example, folder)
    return folder


@pytest.fixture
def here(furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, as the working folder of a test."""
    monkeypatch.chdir(furnished)
    monkeypatch.delenv("COLUMNS", raising=False)
    yield furnished


def study_in(page: str) -> str:
    """The study file that a page shows."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return text.partition("```yaml\n")[2].partition("```")[0]


def on_the_small_clip(study: str) -> str:
    """The same on the CLIP that is part of the package: nobody's weights can be fetched here."""
    lines = ["backbone: {model: symbols}" if x.startswith("backbone:") else x for x in study.splitlines()]
    return "\n".join(lines) + "\n"
