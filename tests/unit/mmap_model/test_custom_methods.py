"""Methods named as file.py:MyMethod: found, refused with a reason, the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmap_model import references
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Seeds, Split
from mmap_model.errors import ConfigurationError
from mmap_model.methods import get_method, method_identity
from mmap_model.plain import content_key

CUSTOM = """
from dataclasses import dataclass
from mmap_model.methods import Method

@dataclass(frozen=True, kw_only=True)
class Few:
    width: int = 4

class Mine(Method):
    name = "NAME"
    version = 1
    Settings = Few

    def check(self, settings, architecture): ...

    def count(self, settings, architecture, *, tasks, groups):
        return settings.width * tasks

    def build(self, settings, backbone, problem): ...
"""


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file with the class ``Mine``, whose method is named after the test."""
    path = tmp_path / "mine.py"
    path.write_text(CUSTOM.replace("NAME", name_of(request)))
    return path


def name_of(request: pytest.FixtureRequest) -> str:
    name: str = request.node.originalname
    return name


def cell(method: str) -> Cell:
    point = Point.from_dict({"method": method, "settings": {"width": 8}})
    return Cell(
        configuration=Configuration(method=point.method, settings=point.settings),
        split=Split(shots=1),
        seeds=Seeds.both(1),
        dataset="d",
        backbone="b",
    )


def edited(path: Path, old: str, new: str) -> str:
    """Text of the file with one thing changed, taken over by this process."""
    text = path.read_text().replace(old, new)
    path.write_text(text)
    references.provide(str(path), text)
    return f"{path}:Mine"


def test_a_class_in_a_file_is_a_method(own: Path) -> None:
    method = get_method(f"{own}:Mine")
    assert method is get_method(f"{own}:Mine")
    assert method.count(method.Settings(), None, tasks=3, groups=1) == 12  # type: ignore[arg-type]
    assert references.sources(f"{own}:Mine") == {str(own): own.read_text()}
    assert references.sources("mmap") == {}


def test_a_class_in_a_module_is_a_method(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.rename(own.with_name("module_of_mine.py"))
    monkeypatch.chdir(own.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert get_method("module_of_mine:Mine").Settings().width == 4
    assert references.sources("module_of_mine:Mine") == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("", ""), []),
        (("(Method)", "(object)"), ["no method of that name", "derives from Method"]),
        (("class Mine", "class Other"), ["no method of that name"]),
        (("def count", "def counts"), ["count not written"]),
        (("backbone, problem", "backbone, *, classes, template"), ["as one value", "problem.classes"]),
        (('name = "', 'name = "The '), ["name is 'The ", "lower-case"]),
        (("version = 1", "version = 0"), ["version is 0", "1 or more"]),
        (("version = 1", "new_classes = 'none'"), ["new_classes is 'none'", "zero_shot"]),
        (("frozen=True, ", ""), ["not frozen", "@dataclass(frozen=True, kw_only=True)"]),
        (("width: int = 4", "width: int"), ["default for every field"]),
        (("Settings = Few", "Settings = 3"), ["Settings is not a dataclass"]),
        (("import Method", "import Methods"), ["fails on import", "ImportError"]),
    ],
)
def test_what_is_no_method_is_refused_with_the_reason(
    own: Path, change: tuple[str, str], words: list[str]
) -> None:
    name = edited(own, *change)
    if not words:
        get_method(name)
        return
    with pytest.raises(ConfigurationError) as caught:
        get_method(name, where="demo.yaml:3: method")
    assert caught.value.where == "demo.yaml:3: method"
    assert all(word in str(caught.value) for word in [str(own), *words]), caught.value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.py:Mine", ["nowhere.py does not exist", "path from where you run"]),
        ("no_such_module:Mine", ["'no_such_module' cannot be imported", "file.py:MyMethod"]),
        ("mmmap", ["'mmmap'", "did you mean 'mmap'", "file.py:MyMethod"]),
    ],
)
def test_what_is_not_there_is_named(name: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        get_method(name)
    assert all(word in str(caught.value) for word in words), caught.value


def test_names_are_taken_once(own: Path) -> None:
    get_method(f"{own}:Mine")
    other = own.with_name("other.py")
    other.write_text(own.read_text() + "# and something else\n")
    with pytest.raises(ConfigurationError, match="another class here is called"):
        get_method(f"{other}:Mine")
    built_in = own.with_name("built_in.py")
    built_in.write_text(CUSTOM.replace("NAME", "mmap"))
    with pytest.raises(ConfigurationError, match="'mmap' is a method of this package"):
        get_method(f"{built_in}:Mine")


def test_a_cell_counts_by_name_and_version_wherever_the_file_is(own: Path) -> None:
    key = cell(f"{own}:Mine").key
    moved = own.with_name("moved.py")
    moved.write_text(own.read_text())
    assert cell(f"{moved}:Mine").key == key
    assert cell(edited(moved, "class Mine", "# a remark\nclass Mine")).key == key
    newer = cell(edited(moved, "version = 1", "version = 2"))
    assert newer.key != key
    assert method_identity(newer.configuration.method).endswith("@2")


def test_keys_of_registered_methods_are_as_ever() -> None:
    point = Point.from_dict({"method": "mmap"})
    plain = Cell(
        configuration=Configuration(method="mmap", settings=point.settings, partition=((0,),)),
        split=Split(shots=1),
        seeds=Seeds.both(1),
        dataset="d",
        backbone="b",
    )
    plain = replace(plain, protocol="paper")  # no revision concerns it
    assert plain.key == content_key({"recipe_version": 1, "cell": plain.to_dict()})


ELSEWHERE = """
import json, sys
from mmap_model import references
from mmap_model.cells import Cell
given = json.loads(sys.argv[1])
for location, text in given["sources"].items():
    references.provide(location, text)
print(Cell.from_dict(given["cell"]).key)
"""


def test_a_process_without_the_file_takes_it_from_one_that_has_it(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    here = cell("mine.py:Mine")
    empty = tmp_path / "elsewhere"
    empty.mkdir()

    def run(sources: dict[str, str]) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"cell": here.to_dict(), "sources": sources}
        command = [sys.executable, "-c", ELSEWHERE, json.dumps(given)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)

    assert run(references.sources("mine.py:Mine")).stdout.strip() == here.key
    assert "mine.py does not exist" in run({}).stderr
