"""Runs as lines of JSON in one file per study, for `jq`, pandas, or whatever else reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.tracking import Backend, Connection, Delivery, Operation, TrackingError


class JsonLines(Backend):
    """Serves ``jsonl:FOLDER``. What is told twice stands there twice; ``runs_of`` reads it once."""

    schemes = ("jsonl",)
    cannot = ("What is sent twice stands in the file twice: read it with runs_of",)

    def __init__(self, to: Connection) -> None:
        super().__init__(to)
        self._file = Path(str(self.place(to.uri))) / f"{to.experiment}.{to.study}.jsonl"

    @classmethod
    def place(cls, uri: str) -> str:
        return uri.removeprefix("jsonl:")

    @classmethod
    def check(cls, uri: str, timeout: float) -> None:
        folder = Path(cls.place(uri))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(f"{folder}: {error}", where="tracking.uri", fix="give a folder") from error
        if not os.access(folder, os.W_OK):
            raise TrackingError(f"cannot write to {folder}", where="tracking.uri", fix="give another folder")

    def open(self) -> str | None:
        self._append([])
        marks = [line["mark"] for line in _lines(self._file) if "mark" in line]
        return marks[-1] if marks else None

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        lost = not self._file.exists()  # somebody deleted it: all of the study is told again
        self._append([{**operation, "late": late} for operation in operations])
        return Delivery(lost=lost)

    def finish(self, mark: str) -> None:
        self._append([{"mark": mark}])

    def _append(self, lines: Sequence[Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as stream:  # what a killed process left unfinished stays a line of its own
            stream.write("".join("\n" + json.dumps(line) for line in lines))


def runs_of(file: Path) -> dict[str, dict[str, Any]]:
    """Runs by name: their status, params, tags, and metrics as {name: {step: value}}."""
    runs: dict[str, dict[str, Any]] = {}
    for line in _lines(file):
        if "mark" in line:
            continue
        run = runs.setdefault(line["run"], {"status": None, "params": {}, "tags": {}, "metrics": {}})
        if line["op"] == "start" and not line["late"]:
            run["status"] = "RUNNING"
            for tag in ("state", "error"):  # of how it ended before
                run["tags"].pop(tag, None)
        if line["op"] == "end" and not line["late"]:
            run["status"] = line["status"]
        run["params"] |= line.get("params", {})
        run["tags"] |= line.get("tags", {})
        for name, value, step, _ in line.get("metrics", []):
            run["metrics"].setdefault(name, {})[step] = value
    return runs


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # empty, or unfinished: that was told again
                continue
