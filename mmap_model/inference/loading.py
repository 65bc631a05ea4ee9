"""From a folder to a classifier."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import torch

from mmap_model.backbone import Backbone, BackboneSpec
from mmap_model.forward.precision import exact_products
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.engine import Precision
from mmap_model.inference.formats import FORMATS, LoadOptions, format_of
from mmap_model.references import TRUST, loaded_only


def load(
    path: str | Path,
    *,
    backbone: Backbone | BackboneSpec | str | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    trusted: bool = False,
) -> Classifier:
    """Load an exported classifier.

        classifier = mmap_model.load("winner/")
        for prediction in classifier.predict(["a.jpg", "b.jpg"], task="photo"):
            print(prediction.label)

    Args:
        path: folder of the artefact. One of another kind that holds artefacts runs as the first of these.
        backbone: the CLIP that was tuned or where it is (``local-dir:DIR``, or a file of weights), for kinds
            that need it; None: where the artefact says.
        device: where to compute.
        precision: of the towers: ``fp32``, or ``bf16`` as mixed precision. Features and logits are fp32.
        trusted: run the Python file of a method that is not this package's, where the artefact names one. One
            that this process has loaded already is used in any case. ``MMAP_TRUST_CODE=1`` in the environment
            says the same for all artefacts.

    Raises:
        CheckpointError: no artefact, a damaged one, or one of another CLIP.
        BackboneError: its CLIP cannot be loaded.
        ConfigurationError: its kind cannot run here, or not so.
    """
    folder = Path(path)
    artefact = Artefact.read(folder)
    if artefact.kind not in FORMATS and artefact.inside:
        # A format of somebody else around one of these: what runs is the same.
        folder = folder / artefact.inside[0]
        artefact = Artefact.read(folder)
    found = format_of(artefact.kind, where=f"{folder}: kind")
    found.require()
    exact_products()
    options = LoadOptions(backbone=backbone, device=device, precision=precision)
    with nullcontext() if trusted or os.environ.get(TRUST) == "1" else loaded_only():
        return Classifier(artefact, folder, found.load(folder, artefact, options))
