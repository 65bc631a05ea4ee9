"""One training step over buffers that stay in place, so that a GPU can replay it without the host.

B images and captions, L tokens, D width, K layers. A step is hundreds of small kernels, and starting them one
by one takes several times as long as running them: on CUDA each shape of step is recorded as a graph.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from mixing import Batch, keyed
from open_clip import CLIP
from tables import LENGTHS
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from towers import encode_embedded, encode_images

LENGTH_SHARES = (0.45, 0.35, 0.2)
KEPT_PATCHES, PATCHES = 32, 64
LAYERS, INSERTED = 4, 8
WIDTHS = {"image": 128, "text": 96}
NOISE_SHARES = {"image": 0.4, "text": 0.75}


@dataclass(frozen=True)
class Shape:
    """What gives steps their shape: caption length, random tokens in a tower, all patches or half."""

    length: int
    image_noise: bool
    text_noise: bool
    whole: bool


def shape_of(seed: int, step: int, eased: float, *, ending: bool) -> Shape:
    """Drawn for a step; ``ending`` steps see whole images, as when the model is used."""
    rng = random.Random(f"{seed}/{step}")
    length = rng.choices(LENGTHS, LENGTH_SHARES)[0]
    image_noise, text_noise = (rng.random() < share * eased for share in NOISE_SHARES.values())
    whole = ending or rng.random() < 0.05
    return Shape(length, image_noise and not whole, text_noise, whole)


class Step:
    """Runs training steps: the first of a shape as it comes, later ones as a graph where ``graphs``."""

    def __init__(
        self, model: CLIP, optimiser: torch.optim.Optimizer, batch: int, seed: int, *, graphs: bool
    ) -> None:
        self.model, self.optimiser, self.seed, self.graphs = model, optimiser, seed, graphs
        self.parameters = list(model.parameters())
        self.device = device = self.parameters[0].device
        self.pixels = torch.zeros(batch, 3, 32, 32, device=device)
        self.ids = {length: torch.zeros(batch, length, dtype=torch.long, device=device) for length in LENGTHS}
        self.ends = torch.zeros(batch, dtype=torch.long, device=device)
        self.fits = torch.zeros(batch, batch, dtype=torch.bool, device=device)
        self.kept = torch.zeros(batch, KEPT_PATCHES, dtype=torch.long, device=device)
        self.noise = {
            tower: torch.zeros(LAYERS, batch, INSERTED, width, device=device)
            for tower, width in WIDTHS.items()
        }
        self.loss = torch.zeros((), device=device)
        self._seen: set[Shape] = set()
        self._recorded: dict[Shape, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle() if graphs else None

    def run(self, shape: Shape, batch: Batch, step: int) -> None:
        """Update the model by one batch; leaves the loss in ``loss``."""
        self._fill(shape, batch, step)
        if not self.graphs:
            self._update(shape)
        elif shape in self._recorded:
            self._recorded[shape].replay()
        elif shape in self._seen:
            self._record(shape)
            self._recorded[shape].replay()
        else:
            self._seen.add(shape)
            self._warm(shape)

    def _fill(self, shape: Shape, batch: Batch, step: int) -> None:
        generator = keyed(self.device, self.seed, step, 1)
        self.pixels.copy_(batch.pixels)
        self.ids[shape.length].copy_(batch.ids)
        self.ends.copy_(batch.ends)
        self.fits.copy_(batch.fits)
        if not shape.whole:
            order = torch.rand(len(self.pixels), PATCHES, device=self.device, generator=generator)
            self.kept.copy_(order.argsort(1)[:, :KEPT_PATCHES])
        rng = random.Random(f"{self.seed}/{step}/noise")
        for tower, wanted in (("image", shape.image_noise), ("text", shape.text_noise)):
            buffer = self.noise[tower]
            scale, shared = 10 ** rng.uniform(-3.5, 0), rng.random() < 0.7
            if wanted:
                drawn = (LAYERS, 1 if shared else buffer.shape[1], *buffer.shape[2:])
                buffer.copy_(torch.randn(drawn, device=self.device, generator=generator) * scale)

    def _update(self, shape: Shape) -> None:
        ids = self.ids[shape.length]
        self.optimiser.zero_grad(set_to_none=True)
        # One kernel of attention everywhere: the fused ones sum gradients in no fixed order.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(self.device.type, torch.bfloat16):
            images = encode_images(
                self.model,
                self.pixels,
                self.noise["image"] if shape.image_noise else None,
                None if shape.whole else self.kept,
            )
            # A product with ones and zeros: the gradient of a table look-up has no fixed order either.
            table = self.model.token_embedding.weight
            chosen = ids[..., None] == torch.arange(len(table), device=self.device)
            words = chosen.to(torch.bfloat16) @ table
            noise = self.noise["text"] if shape.text_noise else None
            texts = encode_embedded(self.model, words, self.ends, noise)
        loss = loss_of(images, texts, self.fits, self.model.logit_scale.exp())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.loss.copy_(loss.detach())

    def _warm(self, shape: Shape) -> None:
        """An ordinary step on a stream of its own, as recording asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._update(shape)
        torch.cuda.current_stream().wait_stream(stream)

    def _record(self, shape: Shape) -> None:
        """Record the step without running it."""
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._update(shape)
        self._recorded[shape] = graph


def loss_of(images: Tensor, texts: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss; texts that also fit an image are left out of its negatives."""
    logits = (images @ texts.T * scale).masked_fill(fits, float("-inf"))
    target = torch.arange(len(images), device=images.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def parameter_groups(model: CLIP) -> list[dict[str, Any]]:
    """Weight decay on matrices only; the logit scale learns four times faster (``factor``)."""
    embeddings = ("embedding", "conv1")
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        if name == "logit_scale":
            continue
        (free if parameter.ndim < 2 or any(word in name for word in embeddings) else decayed).append(
            parameter
        )
    return [
        {"params": decayed, "weight_decay": 0.05, "factor": 1.0},
        {"params": free, "weight_decay": 0.0, "factor": 1.0},
        {"params": [model.logit_scale], "weight_decay": 0.0, "factor": 4.0},
    ]
