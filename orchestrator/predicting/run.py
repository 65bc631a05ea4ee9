"""What one run is about, and its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmap_model.errors import ConfigurationError, require
from mmap_model.inference.artefact import DESCRIPTION, Artefact
from mmap_model.plain import to_plain
from orchestrator.predicting.labelling import Labeller, Question
from orchestrator.predicting.listing import Listing
from orchestrator.predicting.local import label_here
from orchestrator.study.machine import this_machine
from orchestrator.work.provenance import provenance

if TYPE_CHECKING:
    from mmap_model.inference.classifier import Classifier

FORMAT = 1
"""Of what is committed and written."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run computes.

    Attributes:
        batch: images that are computed at once.
        part: images that are committed together.
        device, precision, backbone: see ``mmap_model.load``.
    """

    batch: int
    part: int
    device: str = "cpu"
    precision: str = "fp32"
    backbone: str | None = None

    def __post_init__(self) -> None:
        require(self.precision in ("fp32", "bf16"), "--precision", self.precision, "use fp32 or bf16")


@dataclass(frozen=True)
class Run:
    """Images to label with an artefact.

    Attributes:
        folder: of the artefact, on this machine.
        artefact: what it says.
        question: what is asked of every image.
        listing: the images.
        options: how it computes.
    """

    folder: Path
    artefact: Artefact
    question: Question
    listing: Listing
    options: Options

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
        classifier, labeller = load(self.folder, self.question, self.options)
        for sentence in remarks(classifier, self.question):
            say(sentence)
        return label_here(
            self.listing,
            classifier,
            labeller,
            batch=self.options.batch,
            part=self.options.part,
            done=done,
            threads=this_machine().cores,
        )


def load(folder: Path, question: Question, options: Options) -> tuple[Classifier, Labeller]:
    """The classifier with the classes that are asked for, and what labels with it.

    Raises:
        InputError: it cannot be loaded, or cannot do what is asked.
    """
    import torch

    import mmap_model

    try:
        device = torch.device(options.device)
    except RuntimeError:
        raise ConfigurationError(
            f"there is no device {options.device!r}", where="--device", fix="use cpu, cuda or cuda:1"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"{options.device} is not there: torch sees {torch.cuda.device_count()} GPUs",
            where="--device",
            fix="use cpu, or a machine with a GPU",
        )
    classifier = mmap_model.load(
        folder,
        backbone=options.backbone,
        device=device,
        precision="bf16" if options.precision == "bf16" else "fp32",
    )
    classifier = question.apply(classifier)
    labeller = Labeller(classifier, question)
    labeller.warm_up()
    return classifier, labeller


def remarks(classifier: Classifier, question: Question) -> list[str]:
    """What a reader of the rows should know, a sentence each."""
    found = []
    if not classifier.calibrated:
        found.append(
            "Probabilities are not calibrated: classes of the tuned model are mixed with those of the CLIP."
        )
    if question.task is None:
        accuracy = getattr(classifier.artefact, "task_accuracy", None)
        measured = (
            "" if accuracy is None else f" On validation images it was right {accuracy:.1%} of the time."
        )
        found.append(
            "The task is the one whose training images are nearest by the plain CLIP's features; "
            f"task_confidence is a softmax of cosines at the CLIP's logit scale, not calibrated.{measured}"
        )
    return found
