"""How much a cache counts beside the text, found by leaving out each labelled image in turn.

Legend: n labelled images of a task, K keys, C classes of the task, E embedding, A values of α, B values of β.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHAS = tuple(1.17 * 2.0**power for power in range(-4, 6))
"""Values of α that are compared: 0.07 to 37, each twice the one before; the authors start at
1.17 for ImageNet, elsewhere higher.

Their searches end between 3 and 50. With a wider grid, leave-one-out on `symbols` took α of 300 and more,
whose cache was too sharp for validation images.
"""

BETAS = tuple(2.0**power for power in range(-2, 6))
"""Values of β that are compared: 0.25 to 32, each twice the one before; the authors start at 1."""

_ROWS = 1024
"""Images that are classified at once, so that memory does not grow with the square of their number."""


@dataclass(frozen=True, kw_only=True)
class LabelledTask:
    """The labelled images of a task, as text and keys see them.

    Attributes:
        labels: [n].
        text: logits of the text alone, [n, C].
        keys: of unit length, [K, E].
        own: which key is an image's own, and its feature, [n].
        values: one-hot classes of the keys, [K, C]; zero for keys that mean nothing to the task.
    """

    labels: Tensor
    text: Tensor
    keys: Tensor
    own: Tensor
    values: Tensor

    def judging(self) -> Tensor:
        """Images that have another one of their class in the task: of the others nothing is left to find."""
        return torch.bincount(self.labels)[self.labels] > 1


@torch.no_grad()
def choose_blend(tasks: Sequence[LabelledTask]) -> tuple[float, float] | None:
    """Choose α and β by leave-one-out: an image is classified by the text and by all keys but its own.

    Only images that have another one of their class in their task are classified: of a class with one image
    no key is left for it, while its key is left for others. Tip-Adapter (Zhang et al., 2022; ``search_hp`` in
    the code of gaopengcuhk/Tip-Adapter) takes the pair with the highest accuracy on validation images.

    Returns:
        α of `ALPHAS` and β of `BETAS` with the highest accuracy, the mean over tasks; of equals those with
        the lowest cross-entropy (likewise), of these the first. None if fewer than half of all images are
        classified, as with one image of every class.
    """
    judging = [task.judging() for task in tasks]
    counts = [int(chosen.sum()) for chosen in judging]
    if 2 * sum(counts) < sum(len(task.labels) for task in tasks):
        return None
    accuracy = {(a, b): Fraction(0) for a in range(len(ALPHAS)) for b in range(len(BETAS))}
    loss = dict.fromkeys(accuracy, 0.0)
    for task, chosen, count in zip(tasks, judging, counts, strict=True):
        if count == 0:
            continue
        hits, losses = (total.tolist() for total in _totals(task, chosen))
        for a, b in accuracy:
            accuracy[a, b] += Fraction(hits[a][b], count)  # exact, or equals would differ by rounding
            loss[a, b] += losses[a][b] / count
    a, b = max(accuracy, key=lambda pair: (accuracy[pair], -loss[pair]))
    return ALPHAS[a], BETAS[b]


def _totals(task: LabelledTask, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of images classified correctly and sums of their cross-entropies, [A, B] each."""
    alphas = torch.tensor(ALPHAS, dtype=task.text.dtype, device=task.text.device)
    hits = torch.zeros(len(ALPHAS), len(BETAS), dtype=torch.int64, device=task.text.device)
    losses = torch.zeros(hits.shape, dtype=torch.float64, device=task.text.device)
    for places in chosen.nonzero().flatten().split(_ROWS):
        labels, text, own = task.labels[places], task.text[places], task.own[places]
        cosines = task.keys[own] @ task.keys.T
        for b, beta in enumerate(BETAS):
            near = (beta * (cosines - 1)).exp().scatter(1, own[:, None], 0.0)
            logits = text + alphas[:, None, None] * (near @ task.values)  # [A, n, C]
            hits[:, b] += (logits.argmax(-1) == labels).sum(1)
            each = F.cross_entropy(logits.mT, labels.expand(len(ALPHAS), -1), reduction="none")
            losses[:, b] += each.sum(1, dtype=torch.float64)
    return hits, losses
