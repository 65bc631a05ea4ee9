"""Batches drawn on the device from tables: pairs of images of one class in two styles, with captions.

B images and captions, C classes, S styles, L tokens. Every draw comes from a generator that is keyed by the
seed and the number of the step, so a resumed run draws what an uninterrupted one would have drawn.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import tables
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mmap_model.symbols.glyphs import GLYPHS
from mmap_model.symbols.renderer import DOMAINS

BENCHMARK_SHARE, DOMAIN_SHARE = 0.35, 0.65
EARLY_STYLE_FREE = 0.7


@dataclass(frozen=True)
class Batch:
    """pixels [B, 3, 32, 32], ids [B, L], ends [B], fits [B, B]: captions that also fit another image."""

    pixels: Tensor
    ids: Tensor
    ends: Tensor
    fits: Tensor


def keyed(device: torch.device, *key: int) -> torch.Generator:
    """A generator that depends on the key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


class Mixer:
    """Draws batches of ``size`` from the tables, which lie on the device.

    Args:
        plain: captions without filler, taken while training eases in.
        filled: captions as they are in the end, by length.
        style_free: share of captions that say nothing about style, in the end.
    """

    def __init__(
        self,
        images: tables.Images,
        plain: dict[int, tables.Captions],
        filled: dict[int, tables.Captions],
        *,
        size: int,
        style_free: float,
        device: torch.device,
    ) -> None:
        def there(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(array)).to(device)

        self.size, self.style_free, self.device = size, style_free, device
        self.pixels, self.first, self.count = map(there, (images.pixels, images.first, images.count))
        self.captions = {
            length: (
                there(np.stack([plain[length].ids, found.ids])),
                there(np.stack([plain[length].ends, found.ends])),
            )
            for length, found in filled.items()
        }
        benchmark = np.array([glyph.benchmark for glyph in GLYPHS])
        self.shares = there(
            np.where(benchmark, BENCHMARK_SHARE / benchmark.sum(), (1 - BENCHMARK_SHARE) / (~benchmark).sum())
        )
        self.inside = torch.arange(len(tables.STYLES), device=device) < len(DOMAINS)

    def draw(self, length: int, eased: float, generator: torch.Generator) -> Batch:
        """One batch with captions of a length; ``eased`` goes from 0 to 1 as training eases in."""
        half = torch.multinomial(self.shares, self.size // 2, replacement=True, generator=generator)
        classes = half.repeat_interleave(2)
        styles = self._styles(half, generator)
        within = self._uniform(generator) * self.count[classes, styles]
        rows = self.first[classes, styles] + within.long()
        free = self._uniform(generator) < EARLY_STYLE_FREE + (self.style_free - EARLY_STYLE_FREE) * eased
        said = torch.where(free, len(tables.STYLES), styles)
        version = (self._uniform(generator) < eased).long()
        place = (self._uniform(generator) * self.captions[length][1].shape[-1]).long()
        ids, ends = (table[version, classes, said, place].long() for table in self.captions[length])
        fits = (classes[:, None] == classes[None]) & (free[None] | (styles[:, None] == said[None]))
        fits.fill_diagonal_(False)
        return Batch(self._augmented(self.pixels[rows], generator), ids, ends, fits)

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.rand(shape or (self.size,), device=self.device, generator=generator)

    def _styles(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Two different styles of each class, flat; domains have their share where a class has any."""
        taken = torch.zeros(len(classes), len(tables.STYLES), dtype=torch.bool, device=self.device)
        has = self.count[classes] > 0
        chosen = []
        for _ in range(2):
            open_ = has & ~taken
            domain = self._uniform(generator, len(classes), 1) < DOMAIN_SHARE
            domain = domain & (open_ & self.inside).any(1, keepdim=True)
            allowed = open_ & (self.inside == domain)
            noise = self._uniform(generator, len(classes), len(tables.STYLES))
            style = torch.where(allowed, noise, -1.0).argmax(1)
            taken = taken.scatter(1, style[:, None], True)
            chosen.append(style)
        return torch.stack(chosen, 1).flatten()

    def _augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Moved by up to 2 pixels, scaled by up to 15 %, a little brighter or darker, in -1..1."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        noise = self._uniform(generator, self.size, 5) * 2 - 1
        matrix = torch.zeros(self.size, 2, 3, device=self.device)
        matrix[:, 0, 0] = 1 + 0.15 * noise[:, 0]
        matrix[:, 1, 1] = matrix[:, 0, 0] * (1 + 0.05 * noise[:, 1])
        matrix[:, :, 2] = noise[:, 2:4] * (2 / 16)
        grid = affine_grid(matrix, list(pixels.shape), align_corners=False)
        moved = grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        return (moved + 0.1 * noise[:, 4, None, None, None]).clamp(-1, 1)
