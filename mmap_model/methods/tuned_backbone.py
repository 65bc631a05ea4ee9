"""Base of the methods that train tensors of the CLIP itself.

Legend: R replicates, T tasks, N copies (1 or T), B images, C classes, E embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mmap_model.backbone import Backbone
from mmap_model.forward import ClassPrompts, encode_classes, encode_images
from mmap_model.forward.deployed import DeployedTower
from mmap_model.forward.precision import full_precision
from mmap_model.methods.deployed import OneTowerPerTask, UnitFeatures, overrides
from mmap_model.methods.model import TunedModel
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from open_clip import CLIP
    from open_clip.transformer import VisionTransformer


Weights = dict[str, Tensor]


class TunedBackbone(TunedModel):
    """Private copies of some of the CLIP's tensors; the rest is read from the shared, frozen backbone.

    The parameters are [R, N, …], named as in the CLIP with ``/`` for ``.`` and ``clip/`` in front. Copies run
    one after another, so fusing would gain nothing.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        per_task: bool,
        trained: Callable[[str], bool],
    ) -> None:
        """Copy the tensors whose name in the CLIP is ``trained``, once or ``per_task``.

        Raises:
            BackboneError: the image tower is no ViT.
        """
        super().__init__()
        assert backbone.architecture.image.layers, "the tower is a transformer"
        self.replicates, self.tasks = problem.replicates, problem.tasks
        self._copies = self.tasks if per_task else 1
        weights = dict(backbone.clip.named_parameters())
        self._trained = {name: "clip/" + name.replace(".", "/") for name in weights if trained(name)}
        self._frozen = {name: p for name, p in weights.items() if name not in self._trained}
        for name, own in self._trained.items():
            value = weights[name].detach().expand(self.replicates, self._copies, *weights[name].shape)
            self.register_parameter(own, nn.Parameter(value.clone()))
        # In tuples, as their parameters are none of this model's.
        self._towers, self._shared = (_Towers(_skeleton(backbone.clip)),), (backbone.clip,)

        lists = list(dict.fromkeys(tuple(names) for names in problem.classes))
        self._list_of_task = [lists.index(tuple(names)) for names in problem.classes]
        # On the device: an index that lies in a list makes the host wait for its copy at every use.
        self.register_buffer(
            "_lists", torch.tensor(self._list_of_task, device=backbone.device), persistent=False
        )
        self._texts = nn.ModuleList(
            ClassPrompts(backbone, classes=encoded, template=problem.template)
            for encoded in ([[names] for names in lists] if per_task else [lists])
        )
        most = max(map(len, lists))
        sizes = torch.tensor([len(names) for names in problem.classes], device=backbone.device)
        places = torch.arange(most, device=backbone.device)
        self.register_buffer("_class_mask", places < sizes[:, None], persistent=False)
        # A class that a task lacks repeats its last one.
        self.register_buffer("_places", torch.minimum(places, sizes[:, None] - 1), persistent=False)

    @property
    def class_mask(self) -> Tensor:
        return self.get_buffer("_class_mask")

    def class_features(self) -> Tensor:
        by_copy = [
            torch.cat([self._encode_texts(weights, (r, number)) for number, weights in enumerate(copies)])
            for r, copies in enumerate(self._weights())
        ]
        features = torch.stack(by_copy)
        with full_precision(features):
            return F.normalize(features, dim=-1)

    def image_features(self, pixels: Tensor) -> Tensor:
        by_copy = [
            torch.cat(
                [
                    self._run(weights, part, (r, number))
                    for number, (weights, part) in enumerate(
                        zip(copies, own.chunk(self._copies), strict=True)
                    )
                ]
            )
            for r, (copies, own) in enumerate(zip(self._weights(), pixels, strict=True))
        ]
        features = torch.stack(by_copy)
        with full_precision(features):
            return F.normalize(features, dim=-1)

    def logit_scale(self) -> Tensor:
        if "logit_scale" in self._frozen:
            return torch.exp(self._frozen["logit_scale"].reshape(()))
        trained = self.get_parameter("clip/logit_scale").reshape(self.replicates, -1, 1, 1)
        return torch.exp(trained).expand(-1, self.tasks, -1, -1)

    def deployed(self, tasks: Sequence[int]) -> nn.Module:
        if overrides(self, TunedBackbone, "image_features"):
            return super().deployed(tasks)
        assert self.replicates == 1, "one replicate is deployed"
        copies = [0] if self._copies == 1 else list(tasks)
        towers = [DeployedTower(self._visual(number)) for number in copies]
        return UnitFeatures(towers[0] if len(towers) == 1 else OneTowerPerTask(towers)).eval()

    def tuned_clips(self, tasks: Sequence[int]) -> list[dict[str, Tensor]] | None:
        if overrides(self, TunedBackbone, "image_features", "class_features", "logit_scale"):
            return super().tuned_clips(tasks)
        return [self._clip_tensors(number) for number in ([0] if self._copies == 1 else tasks)]

    def _clip_tensors(self, number: int, part: str = "") -> dict[str, Tensor]:
        """Parameters of one copy's CLIP, of replicate 0, whose names begin with ``part``."""
        trained = {
            name: self.get_parameter(own).detach()[0, number]
            for name, own in self._trained.items()
            if name.startswith(part)
        }
        if self._copies > 1:  # what is written to files is no part of a larger tensor
            trained = {name: tensor.clone() for name, tensor in trained.items()}
        frozen = {name: p.detach() for name, p in self._frozen.items() if name.startswith(part)}
        return frozen | trained

    def _visual(self, number: int) -> VisionTransformer:
        """The image tower of one copy of replicate 0."""
        visual, tensors = self._shared[0].visual, self._clip_tensors(number, "visual.")
        # Its parameters are replaced by these; whatever else it has is copied.
        real = {
            id(p): nn.Parameter(tensors[f"visual.{name}"], requires_grad=False)
            for name, p in visual.named_parameters()
        }
        return copy.deepcopy(visual, real)

    def _encode_texts(self, weights: Weights, place: tuple[int, int]) -> Tensor:
        """Class embeddings of the tasks of one copy, [T or 1, C, E]; at ``place``, see ``_run``."""
        number = place[1]
        places = self.get_buffer("_places")
        if self._copies == 1:
            features = self._run(weights, self._texts[0], place)[self.get_buffer("_lists")]
        else:
            features = self._run(weights, self._texts[self._list_of_task[number]], place)
            places = places[number : number + 1]
        places = places[..., None].expand(-1, -1, features.shape[-1])
        return features.gather(1, places)

    def _weights(self) -> list[list[Weights]]:
        """The trained tensors by replicate and copy.

        Taken apart at once: the backward pass then puts each whole gradient together once, where indexing
        would fill and add one of the size of all copies for every copy.
        """
        parts = {
            f"clip.{name}": self.get_parameter(own).flatten(0, 1).unbind()
            for name, own in self._trained.items()
        }
        sets = [dict(zip(parts, tensors, strict=True)) for tensors in zip(*parts.values(), strict=True)]
        return [sets[first : first + self._copies] for first in range(0, len(sets), self._copies)]

    def _run(self, weights: Weights, given: nn.Module | Tensor, place: tuple[int, int]) -> Tensor:
        """What the towers of the copy at ``place``, a replicate and a number, make of texts or pixels."""
        frozen = {f"clip.{name}": tensor for name, tensor in self._frozen.items()}
        return functional_call(self._towers[0], weights | frozen, (given,))  # type: ignore[no-any-return]


class _Towers(nn.Module):
    """The encoders as a module, whose weights ``functional_call`` puts in."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, given: ClassPrompts | Tensor) -> Tensor:
        """Embeddings of texts [L, C, E] or of pixels [T, B, E]."""
        if isinstance(given, Tensor):
            return encode_images(self.clip, given, ())
        return encode_classes(self.clip, given, (), embedded=given.embed(self.clip))


def _skeleton(clip: CLIP) -> CLIP:
    """The CLIP without weights: putting others in, for a call, must not touch the shared one."""
    meta = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in clip.parameters()}
    return copy.deepcopy(clip, meta)
