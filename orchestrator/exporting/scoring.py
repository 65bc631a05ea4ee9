"""Scores recorded images through an artefact, in a process that did not make it.

    python -m orchestrator.exporting.scoring JOB    # a file as `Job` writes it

The last line that it prints is JSON: an `Agreement`, or why there is none.

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
from mmap_model.plain import from_plain, to_plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mmap_model.data import Dataset
    from orchestrator.exporting.agreement import Agreement
    from orchestrator.exporting.runners import Runner

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Job:
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
    def read(cls, path: Path) -> Job:
        return from_plain(cls, json.loads(path.read_text(encoding="utf-8")), path.name)


def score(job: Job) -> Agreement:
    """The artefact's predictions beside the expected ones.

    Raises:
        InputError: of the artefact, its CLIP or the data.
    """
    from mmap_model.data import open_dataset
    from mmap_model.training.predictions import read_predictions
    from orchestrator.exporting.agreement import compare, joined
    from orchestrator.exporting.runners import open_runner

    dataset = open_dataset(job.dataset)
    runner = open_runner(Path(job.artefact), backbone=job.backbone, device=job.device)
    found = []
    for task, (samples, recorded) in read_predictions(Path(job.expected).read_bytes()).items():
        places = {name: place for place, name in enumerate(dataset.sample_ids(task))}
        indices = [places[name] for name in samples]
        parts = [
            runner.probabilities(images, task) for images in _batches(dataset, task, indices, runner.size)
        ]
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


def main() -> int:
    from mmap_model.errors import InputError

    try:
        found = score(Job.read(Path(sys.argv[1])))
    except InputError as error:
        print(json.dumps({"refused": {"problem": error.problem, "where": error.where, "fix": error.fix}}))
        return 1
    print(json.dumps({"agreement": found.to_dict()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
