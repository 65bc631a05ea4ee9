"""The shipped CLIP: frozen by hash, a plain open_clip model, and the towers that others rely on."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from mmap_model.backbone import BackboneSpec, load_backbone
from mmap_model.symbols import (
    BENCHMARK_CLASSES,
    CLIP_DIR,
    LONG_CLIP_DIR,
    frozen,
    render,
    weights_sha256,
)
from mmap_model.symbols.glyphs import BENCHMARK_GLYPHS


@pytest.fixture(scope="module")
def clip() -> tuple[open_clip.CLIP, object]:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{CLIP_DIR}")
    return model.eval(), preprocess


def test_weights_are_the_frozen_ones_and_small() -> None:
    assert weights_sha256() == frozen()["weights_sha256"]
    assert (CLIP_DIR / "open_clip_model.safetensors").stat().st_size < 15e6


def test_is_a_plain_clip_with_class_token_and_causal_text(clip: tuple[open_clip.CLIP, object]) -> None:
    model = clip[0]
    assert type(model) is open_clip.CLIP
    assert model.visual.pool_type == "tok"
    assert model.text_pool_type == "argmax"
    assert model.attn_mask is not None
    assert model.visual.conv1.out_channels != model.ln_final.normalized_shape[0]


def test_unused_vocabulary_rows_are_zero(clip: tuple[open_clip.CLIP, object]) -> None:
    used = clip[0].token_embedding.weight.abs().sum(1) > 0
    assert 500 < int(used.sum()) < 5000
    tokens = open_clip.get_tokenizer(f"local-dir:{CLIP_DIR}")(
        [f"a photo of a {name}." for name in BENCHMARK_CLASSES]
    )
    assert bool(used[tokens[tokens > 0]].all())


def test_recognises_benchmark_clipart_far_above_chance(clip: tuple[open_clip.CLIP, object]) -> None:
    model, preprocess = clip
    images = torch.stack([preprocess(Image.fromarray(render(g, "clipart", (99,)))) for g in BENCHMARK_GLYPHS])
    assert images.shape[1:] == (3, 32, 32)
    tokens = open_clip.get_tokenizer(f"local-dir:{CLIP_DIR}")(
        [f"a photo of a {name}." for name in BENCHMARK_CLASSES]
    )
    with torch.no_grad():
        logits = model.encode_image(images, normalize=True) @ model.encode_text(tokens, normalize=True).T
    assert np.mean(logits.argmax(1).numpy() == np.arange(65)) > 0.3


def recognised(folder: Path) -> float:
    """Share of the benchmark's classes that a shipped CLIP names, one new image each in two domains."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    images = torch.stack(
        [
            preprocess(Image.fromarray(render(glyph, domain, (99,))))
            for domain in ("photo", "sketch")
            for glyph in BENCHMARK_GLYPHS
        ]
    )
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(
        [f"a photo of a {name}." for name in BENCHMARK_CLASSES]
    )
    with torch.no_grad():
        image = model.eval().encode_image(images, normalize=True)
        guess = (image @ model.encode_text(tokens, normalize=True).T).argmax(1)
    return float((guess == torch.arange(65).repeat(2)).float().mean())


def test_the_second_clip_is_the_frozen_one_of_the_same_shape_and_knows_more() -> None:
    assert weights_sha256(LONG_CLIP_DIR) == frozen()["long_weights_sha256"]
    config = "open_clip_config.json"
    assert (LONG_CLIP_DIR / config).read_bytes() == (CLIP_DIR / config).read_bytes()
    assert recognised(LONG_CLIP_DIR) > recognised(CLIP_DIR) + 0.08


def test_the_second_clip_is_a_backbone_by_name() -> None:
    first, second = (load_backbone(BackboneSpec(model=name)) for name in ("symbols", "symbols_long"))
    assert second.fingerprint != first.fingerprint
    assert second.architecture.counted_parameters == first.architecture.counted_parameters
