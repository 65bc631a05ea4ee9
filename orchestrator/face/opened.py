"""A study that was run, opened in Python: its trials, cells, curves and predictions as tables."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from mmap_model.errors import InputError
from orchestrator.commands import command
from orchestrator.face.frames import Form, as_form, frame
from orchestrator.face.stored import Stored, find_stored

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from orchestrator.driver import Outcome
    from orchestrator.ledger import TrialRecord
    from orchestrator.study import Study

Part = Literal["validation", "test"]

METRICS = ("accuracy", "nll", "ece", "macro_f1")

_SPREAD = ("mean", "std", "n", "low", "high")
TRIAL_COLUMNS = (
    *("rank", "trial", "state"),
    *(f"validation_{part}" for part in _SPREAD),
    *(f"test_{part}" for part in _SPREAD),
    *("parameters", "share", "worse_than_best", "gain", "device_seconds", "last_epoch", "error"),
)
CELL_COLUMNS = (
    *("row", "trial", "split", "seed", "key", "state", *METRICS, *(f"test_{name}" for name in METRICS)),
    *("parameters", "partition", "train_seconds", "evaluate_seconds", "data_seconds", "finished_at", "error"),
)
CURVE_COLUMNS = ("row", "trial", "split", "seed", "key", "epoch", "lr", *METRICS)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The first of a ranking: the complete trial with the highest mean on the validation images.

    Attributes:
        trial: its number.
        config: its settings by name, as `OpenStudy.trials` shows them.
        validation_mean: accuracy in 0 … 1, over all cells.
        parameters: trained ones of one replicate.
        cells: keys of its cells, splits first.
    """

    trial: int
    config: Mapping[str, Any]
    validation_mean: float
    parameters: int | None
    cells: tuple[str, ...]


class OpenStudy:
    """A study with its records, read anew at every call: of a study that runs, what is there by now.

    Tables are complete and never sampled; ``form`` is ``pandas`` or ``arrow``. Accuracies lie in 0 … 1.

    Attributes:
        outcome: how it was run, if it was by this process.
    """

    def __init__(self, stored: Stored, outcome: Outcome | None = None) -> None:
        self._stored = stored
        self.outcome = outcome

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return self._stored.store.name

    @property
    def storage(self) -> str:
        """Folder or URI of its records."""
        return self._stored.store.storage.locate("")

    @cached_property
    def study(self) -> Study:
        """What it is, as stored."""
        return self._stored.study

    @property
    def results(self) -> dict[str, Any]:
        """What ``orchestrator results --json`` prints: ranking, reference rows, comparisons, budgets."""
        from orchestrator.statistics.ranking import build_results

        return build_results(self._stored.store, self._stored.ledger)

    @property
    def best(self) -> Best:
        """The first of the ranking.

        Raises:
            InputError: no trial is complete.
        """
        results = self.results
        if results["winner"] is None:
            raise InputError(
                f"study {self.name!r} has no complete trial, so there is no best one",
                where="STUDY",
                fix="run its sweep to the end; how it stands: "
                + command("status", self.name, storage=self._stored.store.storage.root),
            )
        row = next(row for row in results["trials"] if row["number"] == results["winner"])
        return Best(
            trial=row["number"],
            config=row["config"],
            validation_mean=row["val"]["mean"],
            parameters=row["parameters"],
            cells=tuple(row["cells"]),
        )

    def trials(self, form: Form = "pandas") -> pd.DataFrame | pa.Table:
        """All trials by number, whatever became of them, with their settings as ``config/<name>``.

        ``rank`` is 1 for the best, null for trials without a mean. ``validation_*`` and ``test_*`` are over
        seeds: mean, standard deviation, number, 95 % interval. ``worse_than_best`` is true where that is
        significant, corrected for selection; ``gain`` is over zero-shot, in differences of accuracy.
        """
        rows = sorted(self._trial_rows(), key=lambda row: int(row["trial"]))
        return frame(rows, TRIAL_COLUMNS, form)

    def ranking(self, form: Form = "pandas") -> pd.DataFrame | pa.Table:
        """Complete trials, the best first, then the reference rows (by ``row``, such as ``zero_shot``)."""
        rows: list[dict[str, Any]] = [
            {"row": f"trial {row['trial']}", **row} for row in self._trial_rows() if row["rank"] is not None
        ]
        rows += [
            {"row": row["name"], **_numbers(row), "trial": None, "rank": None}
            for row in self.results["baselines"]
        ]
        return frame(rows, ("row", *TRIAL_COLUMNS), form)

    def cells(self, form: Form = "pandas") -> pd.DataFrame | pa.Table:
        """One row per cell (a configuration at one split and seed) of every trial and reference row.

        ``state`` is ``finished``, ``failed`` or ``unfinished``; metrics are means over the tasks on
        validation images, ``test_*`` on test images where they were scored, and ``accuracy/<task>``.
        """
        return frame(list(self._cell_rows()), CELL_COLUMNS, form)

    def curves(self, form: Form = "pandas") -> pd.DataFrame | pa.Table:
        """One row per cell and epoch, with ``accuracy/<task>`` and ``train_loss/<task>``.

        Of cells that were stopped early or are in training, what their trial recorded of them: ``accuracy``.
        """
        return frame(list(self._curve_rows()), CURVE_COLUMNS, form)

    def predictions(
        self, key: str, part: Part = "validation", form: Form = "pandas"
    ) -> pd.DataFrame | pa.Table:
        """Every image of a finished cell: ``task``, ``sample``, ``label``, ``label_name``, ``predicted``,
        ``top_classes`` and ``top_probabilities`` (five, best first), ``nll`` in nats.

        Args:
            key: of the cell, or a beginning of it that no other cell of the study has.
            part: ``validation``, or ``test`` where it was scored.

        Raises:
            InputError: no such cell, or it has no such predictions.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from orchestrator.ledger.cell_records import RECORD
        from orchestrator.ledger.cells import TEST

        whole = self._cell(key)
        ledger = self._stored.ledger
        if part == "test":
            record, name, of = ledger.test(whole), "test_predictions.parquet", TEST
            fix = "score it: " + command("confirm", self.name, storage=self._stored.store.storage.root)
        else:
            record, name, of = ledger.get(whole), "predictions.parquet", RECORD
            fix = "wait until it is finished; a study without validation images has none"
        if record is None or name not in record.get("files", {}):
            problem = f"cell {whole[:12]} has no predictions on {part} images"
            raise InputError(problem, where="key", fix=fix)
        data = ledger.read_file(whole, name, of=of)
        table = pq.read_table(io.BytesIO(data))
        classes = self._classes(whole)
        tasks = table["task"].cast(pa.string()).to_pylist()
        labels, tops = table["label"].to_pylist(), table["top_classes"].to_pylist()
        table = table.set_column(0, "task", pa.array(tasks, pa.string()))
        named = {
            "label_name": [classes[task][label] for task, label in zip(tasks, labels, strict=True)],
            "predicted": [classes[task][top[0]] for task, top in zip(tasks, tops, strict=True)],
        }
        for column, values in named.items():
            table = table.add_column(table.schema.get_field_index("label") + 1, column, pa.array(values))
        return as_form(table, form)

    def __repr__(self) -> str:
        states = Counter(trial.state for trial in self._stored.store.load_trials())
        said = ", ".join(f"{number} {state}" for state, number in states.items()) or "no trial yet"
        return f"<study {self.name!r} in {self.storage}: {said}>"

    def _trial_rows(self) -> Iterator[dict[str, Any]]:
        for place, row in enumerate(self.results["trials"], start=1):
            config = {f"config/{name}": value for name, value in row["config"].items()}
            yield {"rank": place if row["val"] else None, **_numbers(row), **config}

    def _rows(self) -> Iterator[tuple[str, TrialRecord]]:
        """Every row of the study that has cells, as it is called."""
        from orchestrator.ledger import TrialRecord

        for trial in self._stored.store.load_trials():
            yield f"trial {trial.number}", trial
        for name, row in sorted(self._stored.store.load_baselines().items()):
            yield name, TrialRecord.from_dict({"number": -1, **row})

    def _cell_rows(self) -> Iterator[dict[str, Any]]:
        ledger, rows = self._stored.ledger, list(self._rows())
        keys = [key for _, row in rows for key in row.keys]
        records, tests, failures = ledger.get_many(keys), ledger.tests(keys), ledger.failures(keys)
        for name, row in rows:
            for cell in row.cells:
                key = cell["key"]
                found = {**_place(name, row, cell), "parameters": cell.get("parameters")}
                found["partition"] = json.dumps(cell["partition"]) if cell.get("partition") else None
                if (record := records.get(key)) is not None:
                    seconds = record.get("seconds") or {}
                    found |= {"state": "finished", "finished_at": record.get("finished_at")}
                    found |= {f"{part}_seconds": seconds.get(part) for part in ("train", "evaluate", "data")}
                    found |= _metrics(record["metrics"])
                elif key in failures:
                    found |= {"state": "failed", "error": failures[key].get("error")}
                else:
                    found["state"] = "unfinished"
                if key in tests:
                    found |= {f"test_{name}": tests[key]["metrics"].get(name) for name in METRICS}
                yield found

    def _curve_rows(self) -> Iterator[dict[str, Any]]:
        ledger, rows = self._stored.ledger, list(self._rows())
        records = ledger.get_many(key for _, row in rows for key in row.keys)
        for name, row in rows:
            for number, cell in enumerate(row.cells):
                place = _place(name, row, cell)
                if cell["key"] in records:
                    for report in ledger.history(cell["key"]):
                        yield {**place, "epoch": report["epoch"], "lr": report.get("lr"), **_metrics(report)}
                    continue
                for epoch in row.epochs:
                    values = epoch.get("values") or []
                    value = values[number] if number < len(values) else None
                    yield {**place, "epoch": epoch["epoch"], "accuracy": value}

    def _cell(self, key: str) -> str:
        known = {cell for _, row in self._rows() for cell in row.keys if cell.startswith(key)}
        if len(known) != 1:
            problem = f"{len(known)} cells begin" if known else "no cell begins"
            raise InputError(
                f"{problem} with {key!r} in study {self.name!r}",
                where="key",
                fix="take a key from .cells(), or .best.cells",
            )
        return known.pop()

    def _classes(self, key: str) -> dict[str, list[str]]:
        """Class names by task, as the cell was trained with."""
        document = json.loads(self._stored.ledger.read_file(key, "prompts.json"))
        return {task["name"]: task["classes"] for task in document["tasks"]}


def open(study: str, *, storage: str | None = None) -> OpenStudy:
    """A study that was run, or runs.

    Args:
        study: a packaged study, a study file, or the name it is stored under.
        storage: folder or URI of the records; by default the study's own.

    Raises:
        InputError: nothing of that name was ever run there.
    """
    return OpenStudy(find_stored(study, storage))


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``build_results``, flat."""
    validation, test = row["val"] or {}, row["test"] or {}
    return {
        "trial": row["number"],
        "state": row["state"],
        **{f"validation_{part}": validation.get(part) for part in _SPREAD},
        **{f"test_{part}": test.get(part) for part in _SPREAD},
        "parameters": row["parameters"],
        "share": row["share"],
        "worse_than_best": row["separable_from_best"],
        "gain": (row["gain"] or {}).get("mean"),
        "device_seconds": row["device_seconds"],
        "last_epoch": (row["last_epoch"] or {}).get("epoch"),
        "error": row["error"],
    }


def _place(name: str, row: TrialRecord, cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "row": name,
        "trial": row.number if row.number >= 0 else None,
        "split": cell["split"],
        "seed": cell["seed"],
        "key": cell["key"],
    }


def _metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: report.get(name) for name in METRICS}
    for task, numbers in (report.get("tasks") or {}).items():
        found |= {f"{name}/{task}": numbers[name] for name in ("accuracy", "train_loss") if name in numbers}
    return found
