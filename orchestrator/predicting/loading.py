"""From an artefact's folder to what labels with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmap_model.errors import ConfigurationError, require
from orchestrator.predicting.labelling import Labeller, Question


@dataclass(frozen=True, kw_only=True)
class LoadingOptions:
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


def load(folder: Path, question: Question, options: LoadingOptions) -> Labeller:
    """What labels with an artefact, its classes those that are asked for.

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
    return labeller
