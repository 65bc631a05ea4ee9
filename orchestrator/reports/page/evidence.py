"""The records of one study, read once, as the sections of a page use them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmap_model.errors import InputError
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cell_records import RECORD
from orchestrator.ledger.cells import TEST
from orchestrator.ledger.documents import CorruptError
from orchestrator.reports.ranking import ranked
from orchestrator.statistics.mistakes import Guess
from orchestrator.statistics.ranking import build_results
from orchestrator.study import Study, study_from_plain

Line = Mapping[str, Any]

UNREADABLE = (CorruptError, OSError, ValueError, KeyError)
"""What reading a file of a cell raises where it was dropped, is damaged or is of another form."""


class ReadOnce(Ledger):
    """A ledger that remembers what it read: the sections of a page ask for the same records."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.storage)
        self._known: dict[str, dict[str, Any] | None] = {}

    def get(self, key: str, *, verify: bool = False) -> dict[str, Any] | None:
        if key not in self._known:
            self._known[key] = super().get(key, verify=verify)
        return self._known[key]

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        wanted = list(dict.fromkeys(keys))
        missing = [key for key in wanted if key not in self._known]
        found = super().get_many(missing)
        self._known.update({key: found.get(key) for key in missing})
        return {key: record for key in wanted if (record := self._known[key]) is not None}


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """What a page is asked to show.

    Attributes:
        test: numbers on test images, where there are any.
        images: thumbnails of mistakes; 0: none.
    """

    test: bool = True
    images: int = 0


class Evidence:
    """A study as a page sees it.

    Args:
        store, ledger: its records.
        wanted: what the page shows.

    Attributes:
        name: of the study.
        results: of `build_results`; without test numbers where the page shows none.
        wanted: what the page shows.
    """

    def __init__(self, store: StudyStore, ledger: Ledger, wanted: PageOptions) -> None:
        self.store, self.ledger = store, ReadOnce(ledger)
        self.name, self.wanted = store.name, wanted
        found = build_results(store, self.ledger)
        self.results = found if wanted.test else _without_test(found)

    @property
    def record(self) -> str:
        """Place of the study's records below the storage's root."""
        return f"studies/{self.name}"

    @cached_property
    def study(self) -> Line:
        """The resolved study as recorded."""
        return self.store.load_study() or {}

    @cached_property
    def settings(self) -> Study | None:
        """The same as an object; None where this version cannot read it, as of a file that is not here."""
        try:
            return study_from_plain(dict(self.study), f"{self.record}/study.json")
        except InputError:
            return None

    @cached_property
    def trials(self) -> Sequence[TrialRecord]:
        """All trials by number."""
        return self.store.load_trials()

    @cached_property
    def by_number(self) -> Mapping[int, TrialRecord]:
        return {trial.number: trial for trial in self.trials}

    @cached_property
    def baselines(self) -> Mapping[str, TrialRecord]:
        """The reference rows by name."""
        rows = self.store.load_baselines()
        return {name: TrialRecord.from_dict({"number": -1, **row}) for name, row in rows.items()}

    @cached_property
    def ranked(self) -> Sequence[Line]:
        """Complete trials of the results, the best first."""
        return ranked(self.results)

    @cached_property
    def rank(self) -> Mapping[int, int]:
        """Ranks by number of the trial, 1 for the best."""
        return {row["number"]: rank for rank, row in enumerate(self.ranked, start=1)}

    @property
    def winner(self) -> Line | None:
        """The first of the ranking."""
        return self.ranked[0] if self.ranked else None

    @property
    def is_tested_only(self) -> bool:
        """Protocol ``paper``: trials have no validation images."""
        return bool(self.ranked) and not any(row["val"] for row in self.ranked)

    def score(self, row: Line) -> Line:
        """The summary that a row is ranked by: validation, or test where there is no validation."""
        found: Line = row["val"] or row["test"]
        return found

    @property
    def score_field(self) -> str:
        return "test" if self.is_tested_only else "val"

    @cached_property
    def tasks(self) -> Sequence[str]:
        """Names of the tasks, in the order of the records."""
        for row in self.ranked:
            if row["tasks"]:
                return list(row["tasks"])
        for trial in [*self.trials, *self.baselines.values()]:
            for record in self.ledger.get_many(trial.keys[:1]).values():
                return list(record["metrics"].get("tasks") or record["metrics"].get("labels") or {})
        return []

    @cached_property
    def invocations(self) -> Sequence[Invocation]:
        """Every run of a driver, oldest first."""
        return self.store.load_invocations()

    @cached_property
    def draws(self) -> Mapping[str, Line]:
        """The drawn images by split and seed."""
        names = [n.removesuffix(".json") for n in self.store.storage.names(f"{self.record}/draws")]
        found = {name: self.store.load_draw(name) for name in sorted(names)}
        return {name: draw for name, draw in found.items() if draw is not None}

    @cached_property
    def varied(self) -> Sequence[str]:
        """Settings whose value differs between trials, in the order of the configuration."""
        seen: dict[str, set[str]] = {}
        for row in self.results["trials"]:
            for name, value in row["config"].items():
                seen.setdefault(name, set()).add(repr(value))
        return [name for name, values in seen.items() if len(values) > 1]

    @cached_property
    def logarithmic(self) -> frozenset[str]:
        """Settings that were searched on a logarithmic scale."""
        found = set()
        for trial in self.trials[:50]:
            for name, written in trial.distributions.items():
                if json.loads(written).get("attributes", {}).get("log"):
                    found.add(name.partition("@")[0])
        return frozenset(found)

    def curve(self, trial: TrialRecord) -> dict[int, float]:
        """The objective of a trial by epoch."""
        return {e["epoch"]: float(e["mean"]) for e in trial.epochs if e["mean"] is not None}

    def cells(self, row: Line) -> list[tuple[Line, Line]]:
        """Cells of a trial of the results, as the trial names them, and the records of the finished ones."""
        trial = self.by_number[row["number"]]
        records = self.ledger.get_many(trial.keys)
        return [(cell, records[cell["key"]]) for cell in trial.cells if cell["key"] in records]

    def history(self, key: str) -> list[dict[str, Any]]:
        """Reports of a finished cell by epoch; none where its file cannot be read."""
        try:
            return self.ledger.history(key)
        except UNREADABLE:
            return []

    @property
    def guessed_on(self) -> str:
        """The images whose predictions the page looks at: never those of a test, if there are others."""
        return "test" if self.is_tested_only else "validation"

    @cached_property
    def guesses(self) -> Sequence[Guess]:
        """What the winner's cells said of every image; empty where nothing is recorded."""
        if self.winner is None:
            return []
        name, of = "predictions.parquet", RECORD
        if self.guessed_on == "test":
            if not self.wanted.test:
                return []
            name, of = "test_predictions.parquet", TEST
        found: list[Guess] = []
        for cell, record in self.cells(self.winner):
            try:
                classes = self._classes(cell["key"], record)
                found += _guesses(cell["key"], self.ledger.read_file(cell["key"], name, of=of), classes)
            except UNREADABLE:
                continue  # dropped or damaged: the section says how many cells it has
        return found

    def _classes(self, key: str, record: Line) -> Mapping[str, Sequence[str]]:
        """Class names by task, as the cell was trained with."""
        document = json.loads(self.ledger.read_file(key, "prompts.json"))
        return {task["name"]: task["classes"] for task in document["tasks"]}


def _guesses(key: str, data: bytes, classes: Mapping[str, Sequence[str]]) -> list[Guess]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    columns = ("sample", "label", "top_classes", "top_probabilities", "nll")
    tasks = table["task"].cast(pa.string()).to_pylist()
    return [
        Guess(
            cell=key,
            task=task,
            sample=sample,
            label=classes[task][label],
            predicted=classes[task][tops[0]],
            confidence=probabilities[0],
            nll=nll,
        )
        for task, sample, label, tops, probabilities, nll in zip(
            tasks, *(table[name].to_pylist() for name in columns), strict=True
        )
    ]


def _without_test(results: dict[str, Any]) -> dict[str, Any]:
    """The results as they are to somebody who never looked at the test images."""

    def without(row: Line) -> Line:
        return {**row, "test": None}

    return {
        **results,
        "trials": [without(row) for row in results["trials"]],
        "baselines": [without(row) for row in results["baselines"]],
        "test_gains": {},
    }
