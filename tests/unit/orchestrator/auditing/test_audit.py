"""The audit of records that were written by real runs: clean ones hold, every kind of tampering is named."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.auditing.finding import Finding
from orchestrator.auditing.study import Audit, audit_study, confirming
from orchestrator.cli.main import execute
from orchestrator.ledger import StudyStore, open_storage
from orchestrator.ledger.documents import decode, encode

Change = Callable[[dict[str, Any]], None]


class Records:
    """The storage that an earlier version left, to be tampered with by somebody who mends every checksum."""

    def __init__(self, root: Path) -> None:
        self.root, self.storage = root, open_storage(root)
        self.store = StudyStore(self.storage, "drawn")
        self.trials = self.store.load_trials()
        self.keys = self.trials[0].keys

    def change(self, path: str, change: Change) -> None:
        """Change a document and its checksum."""
        file = self.root / path
        document = decode(file.read_bytes())
        change(document)
        file.write_bytes(encode(document))

    def record(self, key: str, change: Change) -> None:
        self.change(f"cells/{key}/record.json", change)

    def predict(self, key: str, change: Callable[[pa.Table], pa.Table], name: str = "predictions") -> None:
        """Change a file of predictions and its hash in the record."""
        file = self.root / f"cells/{key}/{name}.parquet"
        sink = io.BytesIO()
        pq.write_table(change(pq.read_table(file)), sink)
        file.write_bytes(sink.getvalue())
        entry = {"sha256": hashlib.sha256(sink.getvalue()).hexdigest(), "bytes": len(sink.getvalue())}
        document = "record" if name == "predictions" else "test"
        self.change(
            f"cells/{key}/{document}.json", lambda found: found["files"].update({f"{name}.parquet": entry})
        )

    def audit(self, study: str = "drawn") -> Audit:
        return audit_study(self.storage, study)

    def errors(self, study: str = "drawn") -> list[Finding]:
        found = self.audit(study)
        assert not found.holds(strict=False)
        return found.errors

    def snapshot(self) -> dict[str, str]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def records(first_records: Path) -> Records:
    return Records(first_records / "runs")


def all_right(table: pa.Table) -> pa.Table:
    """Every image of the first task predicted rightly."""
    tops, labels = table["top_classes"].to_pylist(), table["label"].to_pylist()
    tops = [
        [label, *(c for c in top if c != label)][: len(top)] for top, label in zip(tops, labels, strict=True)
    ]
    place = table.schema.get_field_index("top_classes")
    return table.set_column(place, "top_classes", pa.array(tops, pa.list_(pa.int32())))


@pytest.mark.parametrize("study", ["drawn", "paper", "fixed", "compare-columns"])
def test_studies_of_real_runs_hold_and_stay_as_they_are(records: Records, study: str) -> None:
    before = records.snapshot()
    found = records.audit(study)
    assert found.findings == () and found.holds(strict=True) and found.cells >= 4
    assert found.winner == (0 if study in ("drawn", "fixed") else None)
    assert records.snapshot() == before


def test_a_changed_prediction_shows_in_the_numbers_that_rest_on_it(records: Records) -> None:
    records.predict(records.keys[1], all_right)
    found = {finding.number: finding for finding in records.errors()}
    accuracy = found["metrics.accuracy"]
    assert accuracy.record == f"cells/{records.keys[1]}/record.json"
    assert accuracy.stored == pytest.approx(5 / 12) and accuracy.recomputed == 1.0
    assert "metrics.tasks.ink.accuracy" in found and "metrics.tasks.ink.per_class.0" in found
    assert found["value"].record == "studies/drawn/trials/0" and found["value"].stored == 0.375


def test_a_prediction_changed_without_its_hash_is_named_by_its_file(records: Records) -> None:
    file = records.root / f"cells/{records.keys[0]}/predictions.parquet"
    file.write_bytes(file.read_bytes() + b"\0")
    assert any(f.record.endswith("predictions.parquet") and f.number == "sha256" for f in records.errors())


def test_a_changed_accuracy_is_named_with_the_one_that_its_predictions_give(records: Records) -> None:
    records.record(records.keys[0], lambda record: record["metrics"].update(accuracy=0.9))
    found = {finding.number: finding for finding in records.errors()}
    assert (found["metrics.accuracy"].stored, found["metrics.accuracy"].recomputed) == (
        0.9,
        pytest.approx(1 / 3),
    )
    assert "is stored as 0.9, its predictions give 0.333333" in found["metrics.accuracy"].text


@pytest.mark.parametrize("name", ["nll", "ece", "macro_f1"])
def test_every_recorded_metric_is_computed_again(records: Records, name: str) -> None:
    records.record(records.keys[0], lambda record: record["metrics"]["tasks"]["ink"].update({name: 0.5}))
    assert [finding.number for finding in records.errors()] == [f"metrics.tasks.ink.{name}"]


def test_a_changed_rank_is_named_by_the_value_that_it_came_from(records: Records) -> None:
    path = next((records.root / "studies/fixed/trials").glob("1.json"))
    relative = str(path.relative_to(records.root))
    stored = decode(path.read_bytes())
    assert stored["state"] == "complete" and stored["value"] <= 0.5
    records.change(relative, lambda trial: trial.update(value=0.99))
    found = {finding.number: finding for finding in records.errors("fixed")}
    assert found["value"].record == "studies/fixed/trials/1" and found["value"].stored == 0.99
    rank = found["rank 1 by their stored values"]
    assert (rank.stored, rank.recomputed) == ("trial 1", "trial 0")


def test_a_test_number_in_an_epochs_value_is_called_one(records: Records) -> None:
    key = records.keys[1]
    test = decode((records.root / f"cells/{key}/test.json").read_bytes())["metrics"]["accuracy"]

    def leak(trial: dict[str, Any]) -> None:
        trial["epochs"][-1]["values"][1] = test
        trial["epochs"][-1]["mean"] = trial["value"] = (1 / 3 + test) / 2

    records.change("studies/drawn/trials/0.json", leak)
    found = {finding.number: finding for finding in records.errors()}
    value = found["epochs.2.values.1"]
    assert (value.stored, value.recomputed) == (test, pytest.approx(5 / 12))
    assert "the accuracy on the test images" in value.text and "value" in found


def test_a_swapped_record_does_not_belong_under_its_key(records: Records) -> None:
    first, second = records.keys

    def swap(record: dict[str, Any]) -> None:
        other = decode((records.root / f"cells/{second}/record.json").read_bytes())
        record.clear()
        record.update({**other, "key": first})

    for name, entry in decode((records.root / f"cells/{second}/record.json").read_bytes())["files"].items():
        data = (records.root / f"cells/{second}/{entry.get('path', name)}").read_bytes()
        (records.root / f"cells/{first}/{entry.get('path', name)}").write_bytes(data)
    records.record(first, swap)
    found = records.errors()
    key = next(finding for finding in found if finding.number == "key")
    assert (key.record, key.stored, key.recomputed) == (f"cells/{first}/record.json", first, second)


def test_a_record_put_in_the_place_of_another_is_named(records: Records) -> None:
    first, second = records.keys
    data = (records.root / f"cells/{second}/record.json").read_bytes()
    (records.root / f"cells/{first}/record.json").write_bytes(data)
    found = {finding.record: finding for finding in records.errors()}
    assert "it is of cell" in found[f"cells/{first}/record.json"].problem
    assert "cannot be read" in found["studies/drawn/trials/0"].problem


def test_a_changed_test_score_is_computed_again(records: Records) -> None:
    records.change(
        f"cells/{records.keys[0]}/test.json",
        lambda score: score["metrics"]["tasks"]["ink"].update(accuracy=1.0),
    )
    (found,) = records.errors()
    assert found.record.endswith("test.json") and found.number == "metrics.tasks.ink.accuracy"


def test_validation_on_test_images_is_called_that(records: Records) -> None:
    key = records.keys[0]
    tested = pq.read_table(records.root / f"cells/{key}/test_predictions.parquet")
    records.predict(key, lambda _: tested)
    problems = [finding.problem for finding in records.errors()]
    assert any("not those of the draw: they are the test images" in problem for problem in problems)
    assert any("test images of ink are also validation images" in problem for problem in problems)


def test_a_changed_history_partition_and_configuration_are_found(records: Records) -> None:
    def change(trial: dict[str, Any]) -> None:
        trial["point"]["recipe"]["lr"] = 0.01
        trial["cells"][0]["partition"] = [[0], [1]]

    records.change("studies/drawn/trials/0.json", change)
    found = records.errors()
    assert any("another configuration" in finding.problem for finding in found)
    assert any(finding.number.endswith(".partition") for finding in found)


def test_a_partition_that_the_probe_does_not_give_is_found(records: Records) -> None:
    from orchestrator.auditing.cell import audit_cell
    from orchestrator.auditing.probes import Probes
    from orchestrator.auditing.row import AuditedRow

    (row,) = [AuditedRow(name="trial 0", path="p", record=records.trials[0])]
    cells = {key: audit_cell(records.storage, key) for key in row.record.keys}
    assert list(Probes(records.storage).audit(row, cells)) == []
    row.record.point["grouping"]["objective"] = "sum_centered"
    given = list(Probes(records.storage).audit(row, cells))
    row.record.point["grouping"]["probe"]["snapshot_every"] = 1
    missing = list(Probes(records.storage).audit(row, cells))
    assert all(finding.number == "cell.configuration.partition" for finding in given)
    assert missing and all("there is no probe" in finding.problem for finding in missing)


def test_test_images_seen_before_a_later_trial_are_a_warning_and_an_error_with_strict(
    records: Records, capfd: pytest.CaptureFixture[str]
) -> None:
    records.change(
        "studies/drawn/trials/0.json", lambda trial: trial.update(created_at="2027-01-01T00:00:00+00:00")
    )
    command = ["audit", "drawn", "--storage", str(records.root)]
    assert execute(command) == 0
    assert "test images were evaluated" in " ".join(capfd.readouterr().out.split())
    assert execute([*command, "--strict", "--json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert found["holds"] is False and found["audits"][0]["findings"][0]["severity"] == "warning"


def test_a_test_score_without_a_recorded_evaluation_is_an_error(records: Records) -> None:
    for look in (records.root / "studies/drawn/looks").iterdir():
        look.unlink()
    assert any("no test-set evaluation is on record" in finding.problem for finding in records.errors())


def test_studies_that_confirm_one_are_audited_with_it(
    records: Records, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = records.root / "studies/drawn-seeds-4"
    for name in ("trials", "draws"):
        for file in (records.root / "studies/drawn" / name).iterdir():
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / file.name).write_bytes(file.read_bytes())
    study = decode((records.root / "studies/drawn/study.json").read_bytes())
    study["study"]["name"] = "drawn-seeds-4"
    (folder / "study.json").write_bytes(encode(study))
    records.change("studies/drawn-seeds-4/trials/0.json", lambda trial: trial.update(value=0.8))
    assert confirming(records.storage, "drawn") == ["drawn-seeds-4"]
    assert execute(["audit", "drawn", "--storage", str(records.root), "--json"]) == 1
    audits = json.loads(capfd.readouterr().out)["audits"]
    assert [(each["study"], bool(each["findings"])) for each in audits] == [
        ("drawn", False),
        ("drawn-seeds-4", True),
    ]


def test_exit_codes_of_a_clean_and_an_unknown_study(
    records: Records, capfd: pytest.CaptureFixture[str]
) -> None:
    assert execute(["audit", "drawn", "--storage", str(records.root), "--strict"]) == 0
    assert "drawn holds: 0 errors, 0 warnings; by its predictions trial 0 is first" in capfd.readouterr().out
    assert execute(["audit", "nothing", "--storage", str(records.root)]) == 2
