"""Shapes are read from open_clip configurations; what cannot be prompted is refused with the reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mmap_model.architecture import LOCAL_DIR, model_config, parse_architecture, read_architecture
from mmap_model.errors import BackboneError


def test_vit_b_16_has_the_published_number_of_parameters() -> None:
    shape = read_architecture("ViT-B-16-quickgelu")
    assert shape.parameters == 149_620_737
    assert (shape.text.width, shape.image.width, shape.depth, shape.patches) == (512, 768, 12, 196)


def test_towers_of_unequal_depth_share_the_smaller_number_of_layers() -> None:
    shape = read_architecture("ViT-L-14")
    assert (shape.image.layers, shape.text.layers, shape.depth) == (24, 12, 12)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("ViT-B-16-SigLIP", "timm"),
        ("xlm-roberta-base-ViT-B-32", "transformers"),
        ("coca_ViT-B-32", "CoCa"),
        ("ViT-L-14-CLIPA", "class token"),
        ("ViT-M-16-alt", "layer scale"),
        ("ViT-H-14-worldwide", "tokenizer"),
    ],
)
def test_models_that_cannot_be_prompted_are_refused_with_the_reason(model: str, reason: str) -> None:
    with pytest.raises(BackboneError, match=reason):
        read_architecture(model)


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("vision_cfg", "pool_type", "avg", "class token"),
        ("vision_cfg", "qk_norm", True, "attention"),
        ("vision_cfg", "block_type", "custom", "attention"),
        ("vision_cfg", "image_size", [224, 192], "square"),
        ("text_cfg", "no_causal_mask", True, "bidirectional"),
        ("text_cfg", "embed_cls", True, "class token"),
        ("text_cfg", "pool_type", "last", "end-of-text"),
        ("text_cfg", "scale_heads", True, "attention"),
        ("text_cfg", "proj_type", "none", "projection"),
        ("text_cfg", "tokenizer_kwargs", {"clean": "canonicalize"}, "tokenizer"),
    ],
)
def test_options_that_change_the_computation_are_refused(
    section: str, key: str, value: Any, reason: str
) -> None:
    config = copy.deepcopy(model_config("ViT-B-16-quickgelu"))
    config[section][key] = value
    with pytest.raises(BackboneError, match=reason):
        parse_architecture("changed", config)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(BackboneError, match="ViT-B-16-quickgelu"):
        read_architecture("ViT-B-16-quickgel")


def test_omitted_keys_have_open_clip_defaults() -> None:
    config = {"embed_dim": 512, "vision_cfg": {"layers": 12, "patch_size": 16}, "text_cfg": {}}
    assert parse_architecture("short", config).parameters == 149_620_737


def test_local_dir_without_configuration_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"open_clip_config\.json"):
        read_architecture(f"{LOCAL_DIR}{tmp_path}")


@pytest.mark.parametrize("text", ["{", json.dumps({"text_cfg": {}})])
def test_damaged_configuration_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(BackboneError, match=r"open_clip_config\.json"):
        read_architecture(f"{LOCAL_DIR}{tmp_path}")


def test_ids_of_tokens_are_those_of_the_tokenizer() -> None:
    from open_clip import get_tokenizer

    from mmap_model.byte_pairs import token_ids

    texts = [
        "a photo of a {}.",
        "itap of the naïve café's 12 ✓ things!",
        "graffiti of a sea turtle",
        "Ünïcode 日本",
    ]
    for text, ids in zip(texts, get_tokenizer("ViT-B-16")(texts).tolist(), strict=True):
        assert token_ids(text) == ids[1 : ids.index(49407)]
