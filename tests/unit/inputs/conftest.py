"""What the tables of inputs share: a command line that is run in this process, and a small tree of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.cli.main import execute


@dataclass(frozen=True)
class Answer:
    """What a command came to: its exit code, and all it printed, in one line without frames."""

    code: int
    text: str
    out: str


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Runs one command line in an empty folder. An exception that no command expects fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = execute(arguments)
        printed = capsys.readouterr()
        words = f"{printed.out} {printed.err}".replace("│", " ").split()
        return Answer(code, " ".join(words), printed.out)

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """``tree/<task>/<class>/<image>``: two tasks of two classes with six images each."""
    root = tmp_path / "tree"
    for task in ("clipart", "photo"):
        for number, name in enumerate(("dog", "cat")):
            folder = root / task / name
            folder.mkdir(parents=True)
            for index in range(6):
                colour = (40 * index, 120 * number, 80 if task == "photo" else 160)
                Image.new("RGB", (8, 8), colour).save(folder / f"{index}.png")
    return root
