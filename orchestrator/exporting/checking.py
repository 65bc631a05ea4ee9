"""An artefact is believed only after it was scored: recorded images through it, in another process.

What it must say again is what was recorded of the validation images. Of cells trained in bf16 it is what the
model says in single precision; without validation images (``protocol: clap``, ``paper``) what it says of the
images trained on. Test images have no part in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmap_model.configuration import has_validation
from orchestrator.exporting.agreement import Agreement
from orchestrator.exporting.scoring import ScoringAnswer, ScoringJob

if TYPE_CHECKING:
    from mmap_model.training.metrics import TaskPredictions
    from orchestrator.exporting.winner import Part, Winner

Expected = dict[str, "tuple[list[str], TaskPredictions]"]


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """What came of it.

    Attributes:
        against: in words, what the artefact was compared with.
        agreement: with that; None if it could not be scored.
        recorded: of cells trained in bf16: what the model says in single precision beside the record.
        refused: why the artefact could not be scored.
    """

    against: str
    agreement: Agreement | None = None
    recorded: Agreement | None = None
    refused: str | None = None

    @property
    def holds(self) -> bool:
        return self.agreement is not None and self.agreement.holds

    def in_words(self) -> str:
        """What to tell people."""
        if self.agreement is None:
            return f"Not checked: {self.refused}"
        opening = "Checked against" if self.holds else "It differs from"
        said = f"{opening} {self.against}: {self.agreement.in_words()}."
        if self.recorded is not None:
            said += f"\nThat beside the record in bf16: {self.recorded.in_words()}."
        return said


def check(winner: Winner, folder: Path) -> ExportCheck:
    """Score the recorded images through the artefact in ``folder``, in another process."""
    from mmap_model.training.predictions import write_predictions

    expected, against, recorded = _expected(winner)
    with tempfile.TemporaryDirectory(prefix="check-") as temporary:
        file = Path(temporary) / "expected.parquet"
        file.write_bytes(write_predictions(expected))
        job = ScoringJob(
            artefact=str(folder.resolve()),
            expected=str(file),
            dataset=winner.stored.study.dataset,
            backbone=asdict(winner.stored.study.backbone),
            device=winner.device,
        )
        job.write(Path(temporary) / "job.json")
        answer = _answer(Path(temporary) / "job.json")
    if answer.refused is not None:
        return ExportCheck(against=against, refused=answer.refused)
    return ExportCheck(against=against, agreement=answer.agreement, recorded=recorded)


def _answer(job: Path) -> ScoringAnswer:
    """What another process says of a job."""
    command = [sys.executable, "-m", "orchestrator.exporting.scoring", str(job)]
    ran = subprocess.run(command, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    if lines and lines[-1].startswith("{"):
        return ScoringAnswer.from_json(lines[-1])
    tail = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
    return ScoringAnswer(refused=f"the artefact could not be run: {tail}")


def _expected(winner: Winner) -> tuple[Expected, str, Agreement | None]:
    from mmap_model.training.predictions import read_predictions

    if not has_validation(winner.cell.protocol):
        said = "what the model itself says of its training images, as the study has no validation images"
        return _rescored(winner, "train"), said, None
    stored = winner.stored.ledger.read_file(winner.chosen.key, "predictions.parquet")
    recorded = {t: of for t, of in read_predictions(stored).items() if t in winner.trained.task_names}
    if winner.cell.precision != "bf16":
        return recorded, "the recorded predictions of validation images", None
    again = _rescored(winner, "validation")
    said = "what the model says of the validation images in single precision"
    return again, said, _beside(winner, recorded, again)


def _rescored(winner: Winner, part: Part) -> Expected:
    """What the model in this process says of its images."""
    from mmap_model.training.evaluation import Evaluation
    from mmap_model.training.pixels import Normalisation

    indices, names = winner.indices(part), [task.name for task in winner.dataset.tasks]
    order = [indices[name] if name in indices else winner.every(part)[name] for name in names]
    found = Evaluation(winner.dataset, [order], winner.backbone).run(
        winner.trained.model.eval(), Normalisation(winner.backbone)
    )[0]
    by_name = dict(zip(names, found, strict=True))
    samples = {name: winner.dataset.sample_ids(name) for name in indices}
    return {name: ([samples[name][i] for i in own.tolist()], by_name[name]) for name, own in indices.items()}


def _beside(winner: Winner, recorded: Expected, again: Expected) -> Agreement:
    """Predictions in single precision beside those recorded; the images come in the same order."""
    import numpy as np

    from orchestrator.exporting.agreement import compare, joined

    parts = []
    for task, (samples, record) in recorded.items():
        found = again[task][1]
        classes = winner.trained.checkpoint.tasks[task]
        dense = np.zeros((len(samples), len(classes)))
        np.put_along_axis(dense, found.classes, found.probabilities, 1)
        parts.append(compare(task, samples, record, dense, classes))
    return joined(parts)
