"""What one run is about, and its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmap_model.inference.artefact import DESCRIPTION, Artefact
from mmap_model.methods import get_method
from mmap_model.plain import to_plain
from orchestrator.predicting.cluster import Cluster
from orchestrator.predicting.labelling import Question
from orchestrator.predicting.listing import Listing
from orchestrator.predicting.loading import LoadingOptions, load
from orchestrator.predicting.local import label_here
from orchestrator.study.machine import this_machine
from orchestrator.work.provenance import provenance

FORMAT = 1
"""Of what is committed and written."""


@dataclass(frozen=True)
class PredictionRun:
    """Images to label with an artefact.

    Attributes:
        folder: of the artefact, on this machine.
        artefact: what it says.
        question: what is asked of every image.
        listing: the images.
        options: how it computes.
        cluster: where; None: in this process.
    """

    folder: Path
    artefact: Artefact
    question: Question
    listing: Listing
    options: LoadingOptions
    cluster: Cluster | None = None

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What must be the same for committed parts to be of use. Batch and device are not among it."""
        return {
            "format": FORMAT,
            "artefact": hashlib.sha256((self.folder / DESCRIPTION).read_bytes()).hexdigest(),
            "images": self.listing.sha256,
            "count": self.listing.count,
            "task": self.question.task,
            "classes": None if self.question.classes is None else list(self.question.classes),
            "top": self.question.top,
            "precision": self.options.precision,
            "part": self.options.part,
        }

    @property
    def origin(self) -> Mapping[str, Any]:
        """What a result says that it came from, beside the identity of its run."""
        return {
            "kind": self.artefact.kind,
            "method": self.artefact.method.name,
            "source": to_plain(self.artefact.source),
            "calibrated": self.artefact.calibrated,
            **provenance(),
        }

    @property
    def tasks(self) -> list[str]:
        """Names of those whose classes may come out."""
        return [task.name for task in self.artefact.tasks]

    @property
    def classes(self) -> list[tuple[str, ...]]:
        """Names that may come out."""
        if self.question.classes is not None:
            return [self.question.classes]
        asked = self.question.task
        return [task.classes for task in self.artefact.tasks if asked in (None, task.name)]

    def tables(self, done: Collection[int], say: Callable[[str], None]) -> Iterator[Any]:
        """Rows with their index of all images but those of parts ``done``.

        Args:
            done: numbers of parts.
            say: told once what a reader of the rows should know.

        Raises:
            InputError: the artefact cannot be loaded, or cannot do what is asked.
        """
        for sentence in remarks(self.artefact, self.question):
            say(sentence)
        if self.cluster is not None:
            from orchestrator.predicting.ray_data import label_on_ray

            return label_on_ray(
                self.listing,
                self.folder,
                self.artefact,
                self.question,
                self.options,
                done=done,
                cluster=self.cluster,
            )
        return label_here(
            self.listing,
            load(self.folder, self.question, self.options),
            batch=self.options.batch,
            part=self.options.part,
            done=done,
            threads=this_machine().cores,
        )


def remarks(artefact: Artefact, question: Question) -> list[str]:
    """What a reader of the rows should know, a sentence each."""
    found = []
    if not artefact.calibrated or _mixes(artefact, question):
        found.append(
            "Probabilities are not calibrated: classes of the tuned model are mixed with those of the CLIP."
        )
    if question.task is None:
        accuracy = artefact.task_accuracy
        measured = (
            "" if accuracy is None else f" On validation images it was right {accuracy:.1%} of the time."
        )
        found.append(
            "The task is the one whose training images are nearest by the plain CLIP's features; "
            f"task_confidence is a softmax of cosines at the CLIP's logit scale, not calibrated.{measured}"
        )
    return found


def _mixes(artefact: Artefact, question: Question) -> bool:
    """Whether some of the classes that are asked for get features of the CLIP as it was before tuning."""
    if question.classes is None or get_method(artefact.method.name).new_classes != "zero_shot":
        return False
    asked = [task.classes for task in artefact.tasks if question.task in (None, task.name)]
    return any(not set(question.classes) <= set(known) for known in asked)
