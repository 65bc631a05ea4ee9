"""Commands of README and docs, run on small data up to where Ray, a server or a cluster would start."""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import execute

HERE = runpy.run_path(str(Path(__file__).with_name("commands.py")))
ROOT: Path = HERE["ROOT"]
SHOWN = HERE["shown"]()
RUN = [each for each in SHOWN if each.elsewhere is None]

RECORDED = ("results", "status", "audit", "report", "export")
"""Commands that read the records of a study."""
FINISHED, OTHER = "drawn", "paper"
"""The finished studies that stand for those of the pages."""


def typed(words: tuple[str, ...], folder: Path, out: Path) -> list[str]:
    """What is run for a command: a study that is there, paths below the folder, nothing that starts Ray."""
    command, *rest = words
    if command in RECORDED:
        names: Mapping[str, str] = {"STUDY": FINISHED, "demo": FINISHED, "photos": FINISHED, "other": OTHER}
        rest = [names.get(word, word) for word in rest]
    elif command in ("sweep", "run"):
        command = "plan"
    rest = [word.replace("=/data/", f"={folder}/data/").replace(":/shared/", f":{out}/") for word in rest]
    if command == "plan" and "STUDY" in rest:
        rest = [f"{FINISHED}.yaml", f"dataset.root={folder}/made/images", *rest[1:]]
    if command == "export":  # another process checks it in tests/integration/test_export.py
        rest = [str(out / word) if word == "winner" else word for word in rest if word != "--check"]
    if command == "predict":
        rest = [str(out / word) if word.endswith(".parquet") else word for word in rest]
        rest = ["photo" if word == "indoor" else word for word in rest]  # a task of that artefact
    if command == "report" and "--check" not in rest:
        rest += ["--out", str(out / "page.html")]
    elif command == "report":
        rest = ["--check", str(out / "page.html")]
    return [command, *rest]


@pytest.mark.parametrize("shown", RUN, ids=lambda shown: f"{shown.page}: {shown.line}")
def test_a_command_of_a_page_does_what_it_says(
    shown: Any, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = typed(shown.words, here, tmp_path)
    if words[:2] == ["report", "--check"]:
        assert execute(["report", FINISHED, "--out", str(tmp_path / "page.html")]) == 0
    code = execute(words)
    said = capsys.readouterr()
    assert code == 0, f"{words}: {said.err}"
    assert (said.out + said.err).strip()


def test_what_is_not_run_here_is_run_by_a_test_that_is_there() -> None:
    left = [each for each in SHOWN if each.elsewhere is not None]
    assert len(RUN) > len(left), "most commands are run here"
    for each in left:
        test = ROOT / each.elsewhere
        assert test.is_file(), f"{each.page}: {each.line}: {each.elsewhere}"
    unused = {name for name in HERE["ELSEWHERE"] if not any(each.line.startswith(name) for each in left)}
    assert not unused


def test_the_ranking_on_the_readme_has_the_shape_that_results_print(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    assert execute(["results", FINISHED]) == 0
    printed = capsys.readouterr().out
    told, made = Shape.of(readme), Shape.of(printed)
    assert told.columns == made.columns and told.ends == made.ends
    assert made.values == {("# ± #", "# %", "# ± #")} and told.values == made.values | {("# ± #", "# %", "–")}
    assert made.labels <= told.labels <= made.labels | {"Undecided"}


@dataclass(frozen=True)
class Shape:
    """What two printed rankings have in common, whatever their figures are.

    Attributes:
        columns: of the table.
        values: the forms of validation, best and test in ranked rows.
        labels: of the verdict.
        ends: what the last lines say, each with a command to go on by.
    """

    columns: tuple[str, ...]
    values: frozenset[tuple[str, ...]]
    labels: frozenset[str]
    ends: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Shape:
        lines = [line.strip() for line in text.replace("\N{NO-BREAK SPACE}", " ").splitlines()]
        rows = [re.split(r"\s{2,}", line) for line in lines if re.match(r"\d+\S* +\d+  ", line)]
        verdict = text.partition("\nVerdict\n")[2].partition("\n\n")[0]
        return cls(
            tuple(re.split(r"\s{2,}", next(line for line in lines if line.startswith("rank ")))),
            frozenset(tuple(re.sub(r"\d+(\.\d)?", "#", cell) for cell in row[-4:-1]) for row in rows),
            frozenset(re.findall(r"^(\w[\w ]*): +", verdict, re.M)),
            tuple(line.partition(":")[0] for line in lines if re.match(r"[A-Z][\w ]+: orchestrator", line)),
        )


@pytest.mark.parametrize("number", [0, 1])
def test_python_on_the_page_about_python_runs(
    number: int, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import orchestrator

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    block = re.findall(r"```python\n(.*?)```", text, re.S)[number]
    block = block.replace('open("demo")', f'open("{FINISHED}")')
    planned = []
    monkeypatch.setattr(orchestrator, "run", planned.append)  # tests/integration/test_notebook.py runs one
    found: dict[str, Any] = {}
    exec(compile(block, "docs/python.md", "exec"), found)
    if number == 0:
        assert planned[0].search.trials == 20
        tables = dict(re.findall(r"^\| `found\.(\w+)\(.*?\)` \| .*? \| (.*?) \|$", text, re.M))
        for name in ("trials", "ranking", "cells", "curves"):
            told = set(re.findall(r"`([a-z]\w*[a-z])`", tables[name].partition("(")[0]))
            assert told <= {*getattr(found["found"], name)().columns}, name
    else:
        assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_noise_on_the_page_about_statistics_is_of_the_shape_that_a_selftest_takes() -> None:
    import random

    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    found: dict[str, Any] = {}
    exec(compile(block, "docs/statistics.md", "exec"), found)
    rows = found["Noise"]().residuals(random.Random(1), 3, 4)
    assert [len(row) for row in rows] == [4, 4, 4] and all(isinstance(x, float) for row in rows for x in row)
