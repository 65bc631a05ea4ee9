"""What images meet of all that was trained, computed once; needs the image tower of the CLIP.

``classifier.safetensors`` holds the head (``head.class_features`` [T, C, E], ``head.scale`` [T] and
``head.mask`` [T, C]) and, by tower (``towers.0``; several where a method has a copy of the CLIP per task),
what is not the CLIP's own: keys and values of image prompts, or tuned weights. The checkpoint comes with it
where a model's images take a way of their own (``CustomFinish``, ``EveryTask``) or its logits have more than
the head's (``beside_head``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.checkpoint import DESCRIPTION, TENSORS
from mmap_model.errors import CheckpointError
from mmap_model.forward.deployed import DeployedTower
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import InferenceEngine, TorchEngine
from mmap_model.inference.formats.base import ExportFormat, LoadOptions
from mmap_model.inference.formats.prompts import read_trained
from mmap_model.inference.plain import plain_images
from mmap_model.inference.tower import DeployedClassifier, Head
from mmap_model.inference.trained import Trained
from mmap_model.methods.deployed import OneTowerPerTask, UnitFeatures

FILE = "classifier.safetensors"
_VISUAL = "visual."


class ClassifierFormat(ExportFormat):
    """Heads and prompts without any text tower."""

    name = "classifier"

    def write(self, trained: Trained, folder: Path) -> None:
        deployed = trained.deployed
        tensors = {f"head.{name}": tensor for name, tensor in deployed.head.state_dict().items()}
        towers = _towers(deployed.images)
        for number, tower in enumerate(towers or ()):
            for name, tensor in _tuned(tower, trained.backbone).items():
                tensors[f"towers.{number}.{name}"] = tensor
        if towers is None or deployed.beside is not None:
            for name in (TENSORS, DESCRIPTION):
                (folder / name).write_bytes(trained.files[name])
        # Copies: tensors that share memory cannot be written.
        save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, folder / FILE)

    def load(self, folder: Path, artefact: Artefact, options: LoadOptions) -> InferenceEngine:
        try:
            tensors = load_file(folder / FILE, device=str(options.device))
            head = Head(*(tensors[f"head.{name}"] for name in ("class_features", "scale", "mask")))
        except (SafetensorError, KeyError, FileNotFoundError) as error:
            raise CheckpointError(
                f"damaged: {error!r}", where=str(folder / FILE), fix="export it again"
            ) from error
        if TENSORS in artefact.files:
            trained = read_trained(folder, artefact, options)
            backbone, images = trained.backbone, trained.model.deployed(trained.tasks)
            beside = trained.model.beside_head(trained.tasks)
        else:
            backbone, beside = options.clip(artefact, folder), None
            images = _images(backbone, tensors, len(artefact.tasks))
        return TorchEngine(
            DeployedClassifier(images, head, beside).eval(),
            kind=self.name,
            precision=options.precision,
            plain=plain_images(backbone),
        )


def _towers(images: nn.Module) -> list[DeployedTower] | None:
    """The towers that are all of an image side; None if there is more to it."""
    inner = images.tower if type(images) is UnitFeatures else None
    towers = list(inner.towers) if type(inner) is OneTowerPerTask else [inner]
    return towers if all(type(tower) is DeployedTower for tower in towers) else None  # type: ignore[return-value]


def _tuned(tower: DeployedTower, backbone: Backbone) -> dict[str, Tensor]:
    """What of a tower is not the CLIP's own."""
    own = {p.data_ptr() for p in (*backbone.clip.visual.parameters(), *backbone.clip.visual.buffers())}
    return {name: tensor for name, tensor in tower.state_dict().items() if tensor.data_ptr() not in own}


def _images(backbone: Backbone, tensors: Mapping[str, Tensor], tasks: int) -> nn.Module:
    """The image side that ``write`` took apart."""
    by_tower: dict[int, dict[str, Tensor]] = {0: {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "towers":
            number, _, inner = rest.partition(".")
            by_tower.setdefault(int(number), {})[inner] = tensor
    towers = [_tower(backbone, by_tower[number]) for number in sorted(by_tower)]
    return UnitFeatures(towers[0] if len(towers) == 1 else OneTowerPerTask(towers)).eval()


def _tower(backbone: Backbone, tensors: Mapping[str, Tensor]) -> DeployedTower:
    visual = backbone.clip.visual
    tuned = {name.removeprefix(_VISUAL): t for name, t in tensors.items() if name.startswith(_VISUAL)}
    prompts = {name: t for name, t in tensors.items() if not name.startswith(_VISUAL)}
    if tuned:
        real = {
            id(p): nn.Parameter(tuned[name].to(p.dtype), requires_grad=False) if name in tuned else p
            for name, p in visual.named_parameters()
        }
        visual = copy.deepcopy(visual, real)
    return DeployedTower(visual, prompts)
