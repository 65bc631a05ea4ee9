"""What stages found, kept with the benchmark: each takes hours, and may be run on a machine of its own."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stages import Stage

LOG = "stages.jsonl"
"""A line for every start of a stage: command, seconds, exit code, machine."""

FOLDER = "FOLDER"
"""Stands for the storage in a command that is kept."""


def take(stages: Iterable[Stage], storage: Path, kept: Path) -> list[str]:
    """Copy what the finished stages of ``storage`` found to ``kept``, in place of what it has of them.

    A stage is finished when its last start ended with exit code 0: everything trained and scored.

    Returns:
        the reports taken.

    Raises:
        ValueError: a stage was only tried out.
    """
    lines, taken = log(storage), list[str]()
    for stage in stages:
        own = [line for line in lines if line["stage"] == stage.report]
        if not own or own[-1]["code"] != 0:
            continue
        report = Path("reports") / stage.report / "comparison.json"
        seeds = json.loads((storage / report).read_text())["seeds"]
        if seeds != [str(seed) for seed in stage.seeds]:
            raise ValueError(f"{storage / report} has seeds {seeds}: a run with --tiny is not kept")
        (kept / report).parent.mkdir(parents=True, exist_ok=True)
        _compact(storage / report, kept / report, storage)
        scored = Path("transfers") / stage.report
        if (storage / scored).is_dir():
            shutil.rmtree(kept / scored, ignore_errors=True)
            (kept / scored).mkdir(parents=True)
            for file in sorted((storage / scored).glob("*.json")):
                _compact(file, kept / scored / file.name, storage)
        others = [line for line in log(kept) if line["stage"] != stage.report]
        _write_log(kept, [*others, *(_without_folder(line, storage) for line in own)])
        taken.append(stage.report)
    for file in sorted((storage / "profiles").glob("*.json")):
        (kept / "profiles").mkdir(parents=True, exist_ok=True)
        target = kept / "profiles" / file.name
        before = json.loads(target.read_text()) if target.is_file() else {}
        target.write_text(json.dumps(before | json.loads(file.read_text()), indent=1) + "\n")
        taken.append(f"profiles/{file.name}")
    return taken


def log(folder: Path) -> list[dict[str, Any]]:
    """All lines of ``stages.jsonl``, the first start first."""
    file = folder / LOG
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def add_to_log(folder: Path, line: dict[str, Any]) -> None:
    """One start more."""
    with (folder / LOG).open("a") as file:
        file.write(json.dumps(line) + "\n")


def machine(accelerator: str | None = None) -> str:
    """What a stage ran on, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    processor = about.get("model name") or platform.processor() or platform.machine()
    wide = " with AVX-512" if "avx512f" in about.get("flags", "").split() else ""
    found = f"{os.cpu_count()} × {processor}{wide}"
    return f"{found}, {accelerator}" if accelerator else found


def times(folder: Path) -> Iterator[list[str]]:
    """Rows of a table: stage, starts, minutes of all starts, machine."""
    lines = log(folder)
    for stage in dict.fromkeys(line["stage"] for line in lines):
        own = [line for line in lines if line["stage"] == stage]
        machines = dict.fromkeys(line["machine"] for line in own if line.get("machine"))
        minutes = sum(line["seconds"] for line in own) / 60
        ended = "" if own[-1]["code"] == 0 else f" (exit code {own[-1]['code']})"
        yield [f"{stage}{ended}", str(len(own)), f"{minutes:.0f}", "; ".join(machines) or "–"]


def _compact(source: Path, target: Path, storage: Path) -> None:
    """The same JSON without the white space, which is half of it, and without the storage's place."""
    text = json.dumps(json.loads(source.read_text()), separators=(",", ":"))
    target.write_text(text.replace(str(storage), FOLDER) + "\n")


def _without_folder(line: dict[str, Any], storage: Path) -> dict[str, Any]:
    return line | {"command": [word.replace(str(storage), FOLDER) for word in line["command"]]}


def _write_log(folder: Path, lines: list[dict[str, Any]]) -> None:
    partial = folder / f"{LOG}.partial"
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    partial.replace(folder / LOG)
