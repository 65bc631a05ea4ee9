"""Base of the methods that keep features of the labelled images as keys, beside the text (Tip-Adapter).

Legend: R replicates, T tasks, B images, C classes (the most of any task), n labelled images of a task, K keys
of a replicate, V views, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.precision import full_precision
from mmap_model.methods.blend import LabelledTask, choose_blend
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel
from mmap_model.methods.support import Support


class CacheModel(PromptedModel):
    """exp(logit_scale)·f·t + α·exp(-β·(1 - f·Fᵀ))·L of unit features f, t, with keys F and one-hot labels L.

    Attributes:
        keys: F, the mean of an image's views before normalisation, normalised; task after task, [R, K, E].
        key_labels: class of each key in the list of its own task, [R, K].
        alpha, beta: α and β, [R, 1] each.
    """

    constant_images = True
    fits = True
    keys: Tensor
    key_labels: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        alpha: float,
        beta: float,
        is_chosen: bool,
        views: int,
        is_shared: bool,
    ) -> None:
        """Make room for the keys.

        Args:
            alpha, beta: α and β.
            is_chosen: `fit` replaces them by those that classify the labelled images best, each by the keys
                of the others (`choose_blend`), for each replicate; where it can tell.
            views: V of an image.
            is_shared: every task looks into the cache of all tasks, whose classes count by their names.
        """
        super().__init__(backbone, problem, text_prompts_by="none")
        assert problem.images is not None, "a cache has a key for every labelled image"
        self._views, self._is_chosen = views, is_chosen
        self.sizes = tuple(problem.images)
        total = sum(self.sizes)
        shape = (self.replicates, total, backbone.architecture.embed_dim)
        self._make_keys(torch.zeros(shape, dtype=backbone.dtype, device=backbone.device))
        self.register_fitted("key_labels", torch.zeros(shape[:2], dtype=torch.int64, device=backbone.device))
        for name, weight in (("alpha", alpha), ("beta", beta)):
            weights = torch.full((self.replicates, 1), weight, dtype=backbone.dtype, device=backbone.device)
            if is_chosen:
                self.register_fitted(name, weights)
            else:  # the settings say them: checkpoints do not, as before they could be chosen
                self.register_buffer(name, weights, persistent=False)
        owner = torch.repeat_interleave(torch.arange(self.tasks), torch.tensor(self.sizes))
        seen = (
            torch.ones(self.tasks, total, dtype=torch.bool)
            if is_shared
            else owner == torch.arange(self.tasks)[:, None]
        )
        for name, value in (("_owner", owner), ("_seen", seen), ("_renamed", _renamed(problem.classes))):
            self.register_buffer(name, value.to(backbone.device), persistent=False)

    def image_prompts(self) -> Sequence[Tensor]:
        return ()

    @torch.no_grad()
    def fit(self, support: Support) -> None:
        found = support.embeddings(self._views)
        for r, by_task in enumerate(support.labels()):
            assert tuple(map(len, by_task)) == self.sizes, (
                "as many labelled images as the model was built for"
            )
            means = torch.cat([own.mean(0) for own in found[r]])
            self.keys[r] = F.normalize(means, dim=-1)
            self.key_labels[r] = torch.cat(list(by_task))
        if self._is_chosen:
            self._choose_blend()

    def compare(self, images: Tensor, classes: Tensor) -> Tensor:
        scores = super().compare(images, classes)
        with full_precision(images):
            alpha, beta = self.alpha[..., None, None], self.beta[..., None, None]
            near = (beta * (images @ self.keys.unsqueeze(1).transpose(-1, -2) - 1)).exp()
            return scores + alpha * near @ self.values()

    def values(self) -> Tensor:
        """L by the classes of each task that looks: [R, T, K, C], zero for keys that mean nothing to it."""
        owner, renamed = self.get_buffer("_owner"), self.get_buffer("_renamed")
        labels = renamed[:, owner, self.key_labels].transpose(0, 1)
        shown = (labels >= 0) & self.get_buffer("_seen")
        # Not by one_hot, which looks at the labels and so lets the host wait for them.
        classes = torch.arange(self.class_mask.shape[1], device=labels.device)
        return ((labels[..., None] == classes) & shown[..., None]).to(self.keys.dtype)

    @torch.no_grad()
    def beside_head(self, tasks: Sequence[int]) -> nn.Module:
        assert self.replicates == 1, "one replicate is deployed"
        most = int(self.class_mask[list(tasks)].sum(1).max())
        values = self.values()[0, list(tasks), :, :most]
        alpha, beta = self.alpha[0, 0].clone(), self.beta[0, 0].clone()
        return Cache(self.keys.detach()[0].clone(), values, alpha, beta).eval()

    def _choose_blend(self) -> None:
        """Replace α and β of every replicate, from the keys and classes that it has by now."""
        texts, values = self.plain_class_features(), self.values()
        owner, classes = self.get_buffer("_owner"), self.class_mask.sum(1).tolist()
        for r, keys in enumerate(self.keys):
            tasks = []
            for t, count in enumerate(classes):
                own = (owner == t).nonzero().flatten()
                tasks.append(
                    LabelledTask(
                        labels=self.key_labels[r, own],
                        text=self.logit_scale() * keys[own] @ texts[r, t, :count].T,
                        keys=keys,
                        own=own,
                        values=values[r, t, :, :count],
                    )
                )
            found = choose_blend(tasks)
            if found is not None:
                self.alpha[r], self.beta[r] = found

    def _make_keys(self, zeros: Tensor) -> None:
        self.register_fitted("keys", zeros)


class TrainedCacheModel(CacheModel):
    """The keys are trained, and not normalised again."""

    def _make_keys(self, zeros: Tensor) -> None:
        self.register_parameter("keys", nn.Parameter(zeros))


class Cache(nn.Module):
    """What the keys add to logits [B, C] of unit features [B, E] and tasks [B].

    Attributes:
        keys: [K, E].
        values: [T, K, C].
        alpha, beta: α and β, scalars.
    """

    keys: Tensor
    values: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, keys: Tensor, values: Tensor, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.register_buffer("keys", keys.contiguous())
        self.register_buffer("values", values.contiguous())
        self.register_buffer("alpha", alpha)
        self.register_buffer("beta", beta)

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        with full_precision(features):
            near = (self.beta * (features @ self.keys.T - 1)).exp()
            every: Tensor = self.alpha * near @ self.values  # [T, B, C]
            places = task[None, :, None].expand(1, -1, every.shape[2])
            return every.gather(0, places).squeeze(0)


def _renamed(classes: Sequence[Sequence[str]]) -> Tensor:
    """[T, T, C]: by task that looks, task that owns and its class, the place among the former's, or -1."""
    most = max(map(len, classes))
    found = torch.full((len(classes), len(classes), most), -1, dtype=torch.int64)
    for t, looking in enumerate(classes):
        places = {name: place for place, name in enumerate(looking)}
        for u, owned in enumerate(classes):
            found[t, u, : len(owned)] = torch.tensor([places.get(name, -1) for name in owned])
    return found
