"""Zero-shot accuracy on the benchmark's stand-in test images (the last 14 of 30 per class and domain)."""

from multiprocessing import get_context

import numpy as np
import torch
from captions import _encode, _tokenizer
from open_clip import CLIP
from torch import Tensor
from towers import encode_images, encode_texts

from mmap_model.symbols.glyphs import BENCHMARK_CLASSES
from mmap_model.symbols.renderer import DOMAINS, IMAGES_PER_CLASS, benchmark_images

TEST_FROM = 16
TEMPLATE = "a photo of a {}."
OWN_WORDS = {
    "clipart": "a clipart of a {}.",
    "painting": "a painting of a {}.",
    "photo": "a photo of a {}.",
    "sketch": "a sketch of a {}.",
}
Data = dict[str, tuple[Tensor, Tensor]]


def normalised(images: Tensor) -> Tensor:
    """uint8 [B, 32, 32, 3] to the model's input [B, 3, 32, 32] in -1..1."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def load(processes: int = 1) -> tuple[Data, Data]:
    """(the first 16, the last 14) images of every class, per domain: pixels and labels."""
    first: Data = {}
    last: Data = {}
    if processes > 1:
        with get_context("fork").Pool(processes) as pool:
            rendered = pool.map(benchmark_images, DOMAINS)
    else:
        rendered = [benchmark_images(domain) for domain in DOMAINS]
    for domain, (images, labels) in zip(DOMAINS, rendered, strict=True):
        test = np.arange(len(labels)) % IMAGES_PER_CLASS >= TEST_FROM
        for target, chosen in ((first, ~test), (last, test)):
            target[domain] = (normalised(torch.from_numpy(images[chosen])), torch.from_numpy(labels[chosen]))
    return first, last


def prompts(template: str, lookup: dict[int, int]) -> tuple[Tensor, Tensor]:
    """Class prompts as rows of the model's table [65, L] and the position of their end of text [65]."""
    start, end = _tokenizer().sot_token_id, _tokenizer().eot_token_id
    rows = [[start, *_encode(template.format(name)), end] for name in BENCHMARK_CLASSES]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor([lookup[token] for token in tokens])
    return ids, torch.tensor([len(tokens) - 1 for tokens in rows])


Inserted = list[Tensor] | None


@torch.no_grad()
def image_features(model: CLIP, data: Data, inserted: Inserted = None) -> dict[str, Tensor]:
    """Unit features of every image, per domain [B, E]."""
    return {
        domain: torch.cat([encode_images(model, chunk, inserted) for chunk in pixels.split(130)])
        for domain, (pixels, _) in data.items()
    }


@torch.no_grad()
def accuracies(
    model: CLIP,
    lookup: dict[int, int],
    data: Data,
    features: dict[str, Tensor],
    templates: dict[str, str] | None = None,
    inserted: Inserted = None,
) -> dict[str, float]:
    """Percent correct per domain, and "mean" over domains; `templates` per domain, else TEMPLATE."""
    result = {}
    for domain, (_, labels) in data.items():
        template = templates[domain] if templates else TEMPLATE
        ids, ends = (tensor.to(labels.device) for tensor in prompts(template, lookup))
        texts = encode_texts(model, ids, ends, inserted)
        result[domain] = float((features[domain] @ texts.T).argmax(1).eq(labels).float().mean() * 100)
    return {**result, "mean": sum(result.values()) / len(result)}


def kronecker_prompts(seed: int, size: float, length: int = 8) -> tuple[list[Tensor], list[Tensor]]:
    """Two MmAP modules' prompts at initialisation, per layer: texts 4×[length, 96], images 4×[length, 128].

    Each module has one source [length/4, 32] of N(0, 0.02²); scaling matrices are N(0, size²).
    """
    rng = torch.Generator().manual_seed(seed)
    texts: list[list[Tensor]] = []
    images: list[list[Tensor]] = []
    for _ in range(2):
        source = torch.randn(length // 4, 32, generator=rng) * 0.02
        for prompts_of, width in ((texts, 96), (images, 128)):
            prompts_of.append(
                [torch.kron(torch.randn(2, width // 32, generator=rng) * size, source) for _ in range(4)]
            )
    return (
        [torch.cat(pair) for pair in zip(*texts, strict=True)],
        [torch.cat(pair) for pair in zip(*images, strict=True)],
    )
