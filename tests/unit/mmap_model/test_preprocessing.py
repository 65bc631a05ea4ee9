"""Preprocessing that is published with weights is honoured or refused, and part of the fingerprint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmap_model.architecture import parse_architecture
from mmap_model.backbone_identity import fingerprint_of
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.errors import BackboneError
from mmap_model.fingerprint import fingerprint
from mmap_model.preprocessing import (
    OPENAI_MEAN,
    Preprocessing,
    Resize,
    from_hugging_face,
    from_open_clip,
)

HALVES = (0.5, 0.5, 0.5)


def fingerprint_with(preprocessing: Preprocessing) -> str:
    config = {
        "embed_dim": 4,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "head_width": 4},
        "text_cfg": {"width": 8, "heads": 2, "layers": 1},
    }
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    shape = parse_architecture("m", config)
    return fingerprint(shape, config, preprocessing=preprocessing, weights=weights)


def test_fingerprints_of_clips_own_preprocessing_stay_what_they_were() -> None:
    assert fingerprint_with(Preprocessing()) == "b35936e3967b4886d5a0b2d6762e582a"
    assert fingerprint_with(Preprocessing(mean=HALVES, std=HALVES)) == "5c141801ccb76e94463dfe0ff12b8f1f"
    assert fingerprint_of(BackboneSpec()) == "8af74711e45b23be204225b748689610"


def test_every_way_to_preprocess_has_a_fingerprint_of_its_own() -> None:
    given = [
        Preprocessing(),
        Preprocessing(mean=HALVES),
        Preprocessing(std=HALVES),
        Preprocessing(resize=Resize("squash")),
        Preprocessing(resize=Resize("longest")),
        Preprocessing(resize=Resize("longest", fill=255)),
        Preprocessing(resize=Resize(interpolation="bilinear")),
        Preprocessing(resize=Resize("squash", "bilinear")),
    ]
    assert len({fingerprint_with(one) for one in given}) == len(given)
    unused = Preprocessing(resize=Resize("shortest", fill=255))
    assert fingerprint_with(unused) == fingerprint_with(Preprocessing()), "nothing is filled"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Preprocessing()),
        ({"mean": None, "std": None, "size": 16, "mode": "RGB"}, Preprocessing()),
        ({"mean": 0.5, "std": [0.5, 0.5, 0.5], "size": [16, 16]}, Preprocessing(HALVES, HALVES)),
        ({"resize_mode": "squash"}, Preprocessing(resize=Resize("squash"))),
        ({"resize_mode": "longest", "fill_color": 9}, Preprocessing(resize=Resize("longest", fill=9))),
        ({"interpolation": "bilinear"}, Preprocessing(resize=Resize(interpolation="bilinear"))),
        ({"interpolation": "random"}, Preprocessing()),
    ],
)
def test_a_preprocess_cfg_is_honoured(given: dict[str, Any], wanted: Preprocessing) -> None:
    assert from_open_clip(given, 16, "file") == wanted


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resize_mode", "crop"),
        ("interpolation", "nearest"),
        ("mean", [0.5, 0.5]),
        ("mean", "half"),
        ("std", [0.5, 0.0, 0.5]),
        ("std", [0.5, float("nan"), 0.5]),
        ("size", 32),
        ("size", [16, 8]),
        ("mode", "L"),
        ("fill_color", 300),
        ("crop_pct", 0.9),
    ],
)
def test_what_of_a_preprocess_cfg_cannot_be_honoured_is_refused(key: str, value: Any) -> None:
    with pytest.raises(BackboneError, match=f"some.json: {key}") as caught:
        from_open_clip({key: value}, 16, "some.json")
    assert caught.value.fix


CLIPS = {
    "do_resize": True,
    "size": {"shortest_edge": 16},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16},
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": list(OPENAI_MEAN),
    "image_processor_type": "CLIPImageProcessor",
}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, Preprocessing()),
        ({"size": 16, "crop_size": 16}, Preprocessing()),
        ({"resample": 2}, Preprocessing(resize=Resize(interpolation="bilinear"))),
        (
            {"size": {"height": 16, "width": 16}, "do_center_crop": False},
            Preprocessing(resize=Resize("squash")),
        ),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, Preprocessing(HALVES, HALVES)),
    ],
)
def test_a_preprocessor_config_is_honoured(changed: dict[str, Any], wanted: Preprocessing) -> None:
    assert from_hugging_face({**CLIPS, **changed}, 16, "file") == wanted


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_resize", False),
        ("do_normalize", False),
        ("rescale_factor", 1.0),
        ("resample", 0),
        ("size", {"shortest_edge": 18}),
        ("size", {"longest_edge": 16}),
        ("crop_size", {"height": 32, "width": 32}),
        ("do_center_crop", False),
        ("do_pad", True),
        ("image_std", [0, 0, 0]),
    ],
)
def test_what_of_a_preprocessor_config_cannot_be_honoured_is_refused(key: str, value: Any) -> None:
    named = "size" if key == "do_center_crop" else key
    with pytest.raises(BackboneError, match=f"some.json: {named}"):
        from_hugging_face({**CLIPS, key: value}, 16, "some.json")
