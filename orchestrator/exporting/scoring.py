"""Scores recorded images through an artefact, in a process that did not make it.

    python -m orchestrator.exporting.scoring JOB    # a file as `ScoringJob` writes it

The last line that it prints is an `ScoringAnswer`.

Images come from their files, through the artefact's own preprocessing; where a dataset has no files, its
evaluation views go in as images.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmap_model.data.dataset import DatasetSpec
from mmap_model.errors import InputError
from mmap_model.plain import from_plain, to_plain
from orchestrator.exporting.agreement import Agreement, compare, joined
from orchestrator.exporting.runners import Runner, open_runner

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mmap_model.data import Dataset

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class ScoringJob:
    """What to score.

    Attributes:
        artefact: its folder.
        expected: file of predictions, as ``write_predictions`` makes them.
        dataset: where the images are.
        backbone: where the CLIP is, for artefacts that need it: what ``BackboneSpec`` takes.
        device: where to compute.
    """

    artefact: str
    expected: str
    dataset: DatasetSpec
    backbone: Mapping[str, Any]
    device: str = "cpu"

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(to_plain(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ScoringJob:
        return from_plain(cls, json.loads(path.read_text(encoding="utf-8")), path.name)


@dataclass(frozen=True, kw_only=True)
class ScoringAnswer:
    """What came of a job: an agreement, or why the artefact was refused."""

    agreement: Agreement | None = None
    refused: str | None = None

    def to_json(self) -> str:
        agreement = None if self.agreement is None else self.agreement.to_dict()
        return json.dumps({"agreement": agreement, "refused": self.refused})

    @classmethod
    def from_json(cls, text: str) -> ScoringAnswer:
        data = json.loads(text)
        agreement = None if data["agreement"] is None else Agreement.from_dict(data["agreement"])
        return cls(agreement=agreement, refused=data["refused"])


def answer(job: ScoringJob) -> ScoringAnswer:
    """The artefact's predictions beside the expected ones, or what is wrong with artefact, CLIP or data."""
    try:
        return ScoringAnswer(agreement=_score(job))
    except InputError as error:
        return ScoringAnswer(refused=": ".join(filter(None, (error.where, error.problem))))


def _score(job: ScoringJob) -> Agreement:
    from mmap_model.data import open_dataset
    from mmap_model.training.predictions import read_predictions

    dataset = open_dataset(job.dataset)
    runner = open_runner(Path(job.artefact), backbone=job.backbone, device=job.device)
    found = []
    for task, (samples, recorded) in read_predictions(Path(job.expected).read_bytes()).items():
        places = {name: place for place, name in enumerate(dataset.sample_ids(task))}
        indices = [places[name] for name in samples]
        batches = _batches(dataset, task, indices, runner)
        parts = [runner.probabilities(images, task) for images in batches]
        found.append(compare(task, samples, recorded, _joined(parts), runner.classes(task)))
    return joined(found)


def _batches(dataset: Dataset, task: str, indices: Sequence[int], runner: Runner) -> Iterator[list[bytes]]:
    """Encoded images; those of a dataset without files as PNG of its views, which loses nothing."""
    originals = dataset.originals(task, indices)
    for first in range(0, len(indices), BATCH):
        own = indices[first : first + BATCH]
        if originals is not None:
            yield [next(originals) for _ in own]
        else:
            yield [_png(view) for view in _views(dataset, task, own, runner)]


def _views(dataset: Dataset, task: str, indices: Sequence[int], runner: Runner) -> npt.NDArray[np.uint8]:
    import numpy as np

    resize = runner.artefact.preprocessing.resize
    views = dataset.views(task, np.array(indices), runner.size, resize)
    found: npt.NDArray[np.uint8] = views.permute(0, 2, 3, 1).numpy()
    return found


def _png(view: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(view).save(sink, "PNG")
    return sink.getvalue()


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    import numpy as np

    return np.concatenate(parts)


if __name__ == "__main__":
    print(answer(ScoringJob.read(Path(sys.argv[1]))).to_json())
