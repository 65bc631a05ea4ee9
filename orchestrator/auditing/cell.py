"""One cell: its key, its files, its numbers and its history, each checked against what it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmap_model.cells import METRIC_VERSION, Cell
from mmap_model.errors import InputError
from orchestrator.auditing.finding import Finding, differs
from orchestrator.auditing.metrics import CLOSE, differences, recompute, same
from orchestrator.ledger import CorruptError, Storage
from orchestrator.ledger.cell_files import check_record, path_of
from orchestrator.ledger.cell_records import RECORD
from orchestrator.ledger.cells import HISTORY, TEST, WEIGHTS
from orchestrator.ledger.documents import decode, digest

FROM_DATASET = {"test_images": ("drawn", "given"), "large_images": (False, True)}
"""Fields that records of earlier versions lack, and what they may be: the dataset decides."""

PREDICTIONS, TEST_PREDICTIONS = "predictions.parquet", "test_predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class AuditedCell:
    """A cell as it was found.

    Attributes:
        key: by which it was looked up.
        record: None if it is not finished or cannot be read.
        cell: what it says it is; None where that cannot be read here.
        validation, test: metrics computed from its predictions; None without any.
        images, test_images: of these, by task.
        history: reports of its epochs.
        score: its test record; None if it has none that can be read.
        findings: what is wrong with it.
    """

    key: str
    record: Mapping[str, Any] | None = None
    cell: Cell | None = None
    validation: Mapping[str, Any] | None = None
    test: Mapping[str, Any] | None = None
    images: Mapping[str, list[str]] = field(default_factory=dict)
    test_images: Mapping[str, list[str]] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    score: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def path(self) -> str:
        return f"cells/{self.key}"

    @property
    def accuracy(self) -> float | None:
        """On validation images, from its predictions."""
        return None if self.validation is None else float(self.validation["accuracy"])

    @property
    def test_accuracy(self) -> float | None:
        return None if self.test is None else float(self.test["accuracy"])

    def accuracy_at(self, epoch: int) -> float | None:
        """On validation images after an epoch, from its history."""
        reports = [report for report in self.history if report.get("epoch") == epoch]
        value = reports[-1].get("accuracy") if reports else None
        return None if value is None else float(value)


def audit_cell(storage: Storage, key: str) -> AuditedCell:
    """Check a cell; nothing is moved or repaired."""
    record_path, findings = f"cells/{key}/{RECORD}", list[Finding]()
    record = _document(storage, record_path, key, findings)
    if record is None:
        return AuditedCell(key=key, findings=tuple(findings))
    cell = _identity(storage, record, key, findings)
    files = _files(storage, key, record, findings)
    loose = 2.0 if record["cell"].get("precision") == "fp64" else CLOSE
    validation, images = _numbers(record, files.get(PREDICTIONS), record_path, PREDICTIONS, loose, findings)
    history = _history(record, files.get(HISTORY), f"{record_path.rpartition('/')[0]}/{HISTORY}", findings)
    score = _document(storage, f"cells/{key}/{TEST}", key, findings)
    test, test_images = None, dict[str, list[str]]()
    if score is not None:
        test_path = f"cells/{key}/{TEST}"
        scored = _files(storage, key, score, findings)
        test, test_images = _numbers(
            score, scored.get(TEST_PREDICTIONS), test_path, TEST_PREDICTIONS, loose, findings
        )
        weights = {**record["files"], **record.get("dropped", {})}.get(WEIGHTS, {}).get("sha256")
        if score.get("weights") and weights and score["weights"] != weights:
            findings.append(
                Finding(record=test_path, problem="it is the score of other weights than the cell's")
            )
    return AuditedCell(
        key=key,
        record=record,
        cell=cell,
        validation=validation,
        test=test,
        images=images,
        test_images=test_images,
        history=tuple(history),
        score=score,
        findings=tuple(findings),
    )


def _document(storage: Storage, path: str, key: str, findings: list[Finding]) -> dict[str, Any] | None:
    data = storage.read(path)
    if data is None:
        return None
    try:
        return check_record(decode(data), key)
    except CorruptError as error:
        findings.append(Finding(record=path, problem=str(error)))
        return None


def _identity(storage: Storage, record: Mapping[str, Any], key: str, findings: list[Finding]) -> Cell | None:
    """What the record is about; a finding where its content belongs under another key."""
    path = f"cells/{key}/{RECORD}"
    try:
        candidates = [Cell.from_dict(dict(given)) for given in _complete(record["cell"])]
        keys = [cell.key for cell in candidates]
    except InputError as error:
        problem = f"what it is cannot be read here: {error.problem}"
        findings.append(Finding(severity="warning", record=path, problem=problem))
        return None
    if key in keys:
        return candidates[keys.index(key)]
    known = (each for each in keys if storage.read(f"cells/{each}/{RECORD}") is not None)
    findings.append(
        differs(path, "key", key, next(known, keys[0]), problem="its content belongs under the key")
    )
    return None


def _complete(cell: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A stored cell with every value that fields it lacks may have."""
    cells = [dict(cell)]
    for name, values in FROM_DATASET.items():
        if name not in cell:
            cells = [{**each, name: value} for each in cells for value in values]
    yield from cells


def _files(
    storage: Storage, key: str, record: Mapping[str, Any], findings: list[Finding]
) -> dict[str, bytes]:
    """Files of a record by name; a finding for each that is missing or changed."""
    found = {}
    for name, entry in record["files"].items():
        path = path_of(key, name, entry)
        data = storage.read(path)
        if data is None:
            findings.append(Finding(record=path, problem="the file is missing"))
        elif digest(data) != entry["sha256"]:
            findings.append(
                differs(path, "sha256", entry["sha256"][:16], digest(data)[:16], problem="the file has")
            )
        if data is not None:
            found[name] = data
    return found


def _numbers(
    record: Mapping[str, Any],
    data: bytes | None,
    path: str,
    name: str,
    loose: float,
    findings: list[Finding],
) -> tuple[dict[str, Any] | None, dict[str, list[str]]]:
    """Metrics from predictions and their images; a finding for each stored number that differs."""
    stored = record["metrics"]
    if data is None:
        if stored.get("accuracy") is not None and name not in record["files"]:
            findings.append(
                Finding(record=path, problem=f"it has numbers and no {name} they could come from")
            )
        return None, {}
    try:
        found, images = recompute(data, stored)
    except (ValueError, KeyError, OSError) as error:
        findings.append(Finding(record=path, problem=f"{name} cannot be read: {error}"))
        return None, {}
    if record.get("metric_version", METRIC_VERSION) == METRIC_VERSION:
        for number, was, now in differences(stored, found, loose):
            findings.append(differs(path, f"metrics.{number}", was, now))
    return found, images


def _history(
    record: Mapping[str, Any], data: bytes | None, path: str, findings: list[Finding]
) -> list[Mapping[str, Any]]:
    if data is None:
        return []
    try:
        epochs = list(decode(data)["epochs"])
    except (CorruptError, KeyError) as error:
        findings.append(Finding(record=path, problem=f"it cannot be read: {error}"))
        return []
    last = epochs[-1] if epochs else {}
    if last.get("epoch") != record["epochs"]:
        findings.append(
            differs(path, "epochs", record["epochs"], last.get("epoch"), problem="its history ends at")
        )
    if not same(last.get("accuracy"), record["metrics"].get("accuracy")):
        findings.append(
            differs(
                path,
                f"epochs.{last.get('epoch')}.accuracy",
                last.get("accuracy"),
                record["metrics"]["accuracy"],
                problem="the record of the cell has",
            )
        )
    return epochs
