"""The run of a study itself: what it is, the data it is about, and what it has found so far.

Like every run it follows from the records, so a resume and ``orchestrator track`` tell the same run again.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmap_model.errors import InputError
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.documents import now
from orchestrator.redaction import redact
from orchestrator.statistics.ranking import build_results
from orchestrator.study.identity import COMPARISON
from orchestrator.study.model import Study
from orchestrator.tracking import operations as op
from orchestrator.tracking.operations import STUDY_RUN, File, Input
from orchestrator.tracking.parameters import fixed, flat, varying

STUDY_FILE, RANKING_FILE, REPORT_FILE = "study.yaml", "ranking.json", "report.html"
"""Files of the run."""

DIGEST = 36
"""Characters that MLflow keeps of a dataset's hash; a manifest has fewer."""

SHOWN = 5
"""Trials that the note beside the run lists."""

WriteReport = Callable[[StudyStore, Ledger, Path], None]
"""Writes the report of a study from its records, one HTML file. Raises InputError if it cannot be made."""

logger = logging.getLogger(__name__)


class StudyRun:
    """Tells of one study as a whole.

    Args:
        study: as it is now.
        store, ledger: its records.
        report: writes its report; None leaves it out.
    """

    def __init__(
        self, study: Study, store: StudyStore, ledger: Ledger, report: WriteReport | None = None
    ) -> None:
        self._study, self._store, self._ledger, self._report = study, store, ledger, report
        self.varies = varying(study)

    def begun(self) -> list[op.Operation]:
        """It begins or is taken up again: its settings, and its images as an input."""
        study, inputs = self._study, self._store.load_inputs() or {}
        tags, params = self._settings()
        begin = op.start(
            STUDY_RUN,
            name=f"study {self._store.name}",
            time=self._started_at(),
            tags={
                "study": self._store.name,
                "dataset": study.dataset.name,
                "backbone": study.backbone.model,
                "kind": "study",
                "trial": STUDY_RUN,  # every run has this tag: of a trial its number, of others what they are
                "varies": ", ".join(self.varies) or None,
                "dataset_manifest": inputs.get("manifest"),
                "backbone_fingerprint": inputs.get("fingerprint"),
                "records": redact(self._store.storage.locate(f"studies/{self._store.name}")),
                **tags,
            },
            params=params,
        )
        resolved = redact(yaml.safe_dump(study.to_plain(), sort_keys=False, allow_unicode=True))
        files: dict[str, File] = {STUDY_FILE: {"text": resolved}}
        return [begin, op.log(STUDY_RUN, inputs=self._inputs(inputs), files=files)]

    def ended(self, folder: Path | None) -> list[op.Operation]:
        """What it has found: the ranking as a table, the report, and how it stands.

        Args:
            folder: local one for the report until it is delivered; None leaves the report as it is.
        """
        results = build_results(self._store, self._ledger)
        lines = _note(results)
        files: dict[str, File] = {}
        tags = {}
        if (table := ranking_table(results, self.varies))["data"]:
            files[RANKING_FILE] = {"text": json.dumps(table, ensure_ascii=False)}
            tags["mlflow.loggedArtifacts"] = json.dumps([{"path": RANKING_FILE, "type": "table"}])
        if folder is not None and self._report is not None:
            try:
                self._report(self._store, self._ledger, folder / REPORT_FILE)
                files[REPORT_FILE] = {"path": str(folder / REPORT_FILE)}
                lines.append(f"The report is under Artifacts: `{REPORT_FILE}`.")
            except InputError as error:  # an extra is not installed, or there is nothing to report yet
                lines.append(f"There is no report: {error.problem}. {error.fix or ''}".rstrip())
            except Exception as error:  # whatever a page of figures meets, the ranking is told
                logger.warning("The report was not made: %s", redact(str(error)))
                lines.append(f"There is no report: {redact(str(error))}")
        if results["winner"] is not None:
            tags["winner"] = f"trial {results['winner']}"
        states = [trial["state"] for trial in results["trials"]]
        state = "interrupted" if "running" in states else "complete"
        tags |= {"state": state, "mlflow.note.content": "\n".join(lines)}
        return [op.log(STUDY_RUN, tags=tags, files=files), op.end(STUDY_RUN, state, self._ended_at())]

    def interrupted(self) -> list[op.Operation]:
        """It was ended by its user; says nothing that has to be read from records first."""
        time = op.milliseconds(now())
        return [op.log(STUDY_RUN, tags={"state": "interrupted"}), op.end(STUDY_RUN, "interrupted", time)]

    def _settings(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Tags and parameters: a comparison may be run again with other settings, and a parameter stays."""
        study = self._study
        about = {
            "splits": ", ".join(split.label for split in study.splits),
            "seeds": ", ".join(seed.label for seed in study.seeds),
            "protocol": study.protocol,
            "precision": study.precision,
        }
        if study.name.startswith(COMPARISON):
            return about, {}
        return {}, {**fixed(study), **about}

    def _inputs(self, inputs: Mapping[str, Any]) -> list[Input]:
        if not inputs.get("manifest"):
            return []
        tasks = {name: content["images"] for name, content in (inputs.get("tasks") or {}).items()}
        profile = {
            "tasks": len(tasks),
            "classes": {name: len(images) for name, images in tasks.items()},
            "images": {name: sum(images) for name, images in tasks.items()},
        }
        dataset = self._study.dataset
        return [
            {
                "name": dataset.name,
                "digest": str(inputs["manifest"])[:DIGEST],
                "source": redact(str(getattr(dataset, "root", None) or dataset.name)),
                "profile": profile if tasks else {},
            }
        ]

    def _started_at(self) -> int:
        begun = [run.started_at for run in self._store.load_invocations()]
        return op.milliseconds(min(begun, default=now()))

    def _ended_at(self) -> int:
        ends = [trial.ended_at for trial in self._store.load_trials() if trial.ended_at]
        return op.milliseconds(max(ends)) if ends else self._started_at()


def ranking_table(results: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The ranking of ``build_results`` as MLflow shows tables: ``columns``, and rows under ``data``.

    Complete trials, the best first, then the reference rows. Accuracies lie in 0 … 1.

    Args:
        results: of the study.
        names: dotted names of the settings that get columns.
    """
    complete = [
        row for row in results["trials"] if row["state"] == "complete" and (row["val"] or row["test"])
    ]
    rows: list[tuple[int | None, Any, Mapping[str, Any]]] = [
        (rank, row["number"], row) for rank, row in enumerate(complete, start=1)
    ]
    rows += [(None, row["name"].replace("_", " "), row) for row in results["baselines"]]
    lines = []
    for rank, name, row in rows:
        settings = flat(row["point"])
        lines.append(
            {
                "rank": rank,
                "trial": str(name),
                **_scores(row, "validation", "mean", "std"),
                **_scores(row, "test", "mean", "std"),
                "parameters": row["parameters"],
                **{key.rpartition(".")[2]: settings.get(key) for key in names},
                **_scores(row, "validation", "n", "low", "high"),
                **_scores(row, "test", "n", "low", "high"),
                "share": row["share"],
                "worse_than_best": row["separable_from_best"],
                "device_seconds": row["device_seconds"],
            }
        )
    columns = list(lines[0]) if lines else []
    return {"columns": columns, "data": [[_plain(value) for value in line.values()] for line in lines]}


def _scores(row: Mapping[str, Any], part: str, *names: str) -> dict[str, Any]:
    found = row[{"validation": "val"}.get(part, part)] or {}
    return {f"{part}_{name}": found.get(name) for name in names}


def _plain(value: Any) -> Any:
    """A value that JSON and a table take: a list as text, what is not finite as nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.dumps(value) if isinstance(value, list | dict) else value


def _note(results: Mapping[str, Any]) -> list[str]:
    """The first of the ranking in Markdown, shown as the run's description."""
    complete = [row for row in results["trials"] if row["state"] == "complete" and row["val"]]
    if not complete:
        return ["No trial is complete yet.", ""]
    lines = ["| rank | trial | validation accuracy | parameters |", "|---|---|---|---|"]
    for rank, row in enumerate(complete[:SHOWN], start=1):
        mean, std = row["val"]["mean"], row["val"]["std"]
        spread = "" if std is None else f" ± {100 * std:.1f}"
        lines.append(f"| {rank} | {row['number']} | {100 * mean:.1f}{spread} % | {row['parameters']} |")
    return [*lines, "", f"All {len(complete)} complete trials are under Artifacts: `{RANKING_FILE}`."]
