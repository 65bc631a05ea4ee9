"""What is published beside weights, or known of their release, is heeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmap_model.architecture import parse_architecture
from mmap_model.backbone import Backbone, load_backbone
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.preprocessing import Preprocessing, Resize
from mmap_model.testing.weight_files import (
    PLAIN,
    QUICK,
    assert_equal,
    folder,
    hugging_face,
    hugging_face_config,
    hugging_face_folder,
    loaded,
    refused,
    safe,
    saved,
    state_of,
    write_json,
)

pytestmark = pytest.mark.usefixtures("originals")


def test_heads_that_shapes_do_not_show_must_be_as_published(
    originals: dict[str, Backbone], tmp_path: Path
) -> None:
    place = folder(tmp_path)
    path = hugging_face_folder(originals[PLAIN], place)
    config = hugging_face_config(originals[PLAIN])
    config["vision_config"]["num_attention_heads"] = 1
    write_json(place / "config.json", config)
    assert "heads" in refused(BackboneSpec(PLAIN, str(path)))
    config = hugging_face_config(originals[PLAIN])
    config["text_config"]["layer_norm_eps"] = 1e-6
    write_json(place / "config.json", config)
    assert "eps" in refused(BackboneSpec(PLAIN, str(path)))


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("text_config", "hidden_act", "gelu_new"),
        ("vision_config", "hidden_act", "quick_gelu"),
        ("text_config", "eos_token_id", 7),
        ("vision_config", "num_channels", 4),
    ],
)
def test_what_open_clip_does_not_compute_is_refused(
    originals: dict[str, Backbone], tmp_path: Path, tower: str, key: str, value: Any
) -> None:
    place = folder(tmp_path)
    hugging_face_folder(originals[PLAIN], place)
    config = hugging_face_config(originals[PLAIN])
    config[tower][key] = value
    write_json(place / "config.json", config)
    assert key in refused(BackboneSpec(f"local-dir:{place}"))


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-16.pt",
        "models--timm--vit_base_patch16_clip_224.openai/snapshots/1/open_clip_pytorch_model.bin",
    ],
)
def test_a_release_is_known_by_the_name_it_is_published_under(
    originals: dict[str, Backbone], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    saved(state_of(originals[QUICK]), path)
    backbone, warned = loaded(BackboneSpec(QUICK, str(path)))
    assert_equal(backbone, originals[QUICK])
    assert not warned
    assert "a release of that name was" in refused(BackboneSpec(PLAIN, str(path)))
    other, warned = loaded(BackboneSpec(PLAIN, str(path), activation="gelu"))
    assert_equal(other, originals[PLAIN])
    assert "normalised" in warned, "a file that only bears the name tells nothing of its preprocessing"


SQUASHED = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, resize=Resize("squash", "bilinear"))


def publish(place: Path, name: str, backbone: Backbone) -> None:
    told = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash", "interpolation": "bilinear"}
    if name == "open_clip_config.json":
        write_json(place / name, {"model_cfg": backbone.config, "preprocess_cfg": told})
    else:
        size = {"height": backbone.image_size, "width": backbone.image_size}
        content = {"size": size, "do_center_crop": False, "resample": 2}
        write_json(place / name, content | {"image_mean": [0.5] * 3, "image_std": [0.25] * 3})


@pytest.mark.parametrize("name", ["open_clip_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("kind", ["state dict", "safetensors", "Hugging Face"])
def test_preprocessing_published_beside_weights_is_honoured(
    originals: dict[str, Backbone], tmp_path: Path, kind: str, name: str
) -> None:
    place = folder(tmp_path)
    state = state_of(originals[PLAIN])
    if kind == "safetensors":
        path = safe(state, place / "w.safetensors")
    else:
        path = saved(hugging_face(state) if kind == "Hugging Face" else state, place / "w.bin")
    publish(place, name, originals[PLAIN])
    backbone, warned = loaded(BackboneSpec(PLAIN, str(path), activation="gelu"))
    assert backbone.preprocessing == SQUASHED
    assert backbone.fingerprint != originals[PLAIN].fingerprint
    assert not warned
    if name == "open_clip_config.json":
        assert load_backbone(BackboneSpec(f"local-dir:{place}")).preprocessing == SQUASHED


def test_the_preprocessing_of_a_tag_is_honoured(
    originals: dict[str, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip import pretrained

    path = saved(state_of(originals[QUICK]), tmp_path / "w.pt")
    release = {
        "url": "https://nowhere/w.pt",
        "quick_gelu": True,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "resize_mode": "squash",
        "interpolation": "bilinear",
    }
    monkeypatch.setattr(pretrained, "get_pretrained_cfg", lambda *_: release)
    monkeypatch.setattr(pretrained, "download_pretrained", lambda *_: str(path))
    monkeypatch.setattr("mmap_model.backbone_identity._hub_is_reachable", lambda: True)
    backbone, warned = loaded(BackboneSpec(QUICK, "squashed"))
    assert backbone.preprocessing == SQUASHED and not warned
    assert "use Tiny-quickgelu" in refused(BackboneSpec(PLAIN, "squashed"))


def test_releases_that_are_not_preprocessed_as_clip_are_known(originals: dict[str, Backbone]) -> None:
    from mmap_model.weights.loading import _released_preprocessing, known_tag

    shape = parse_architecture(PLAIN, originals[PLAIN].config)
    squashed = known_tag(BackboneSpec("ViT-H-14-quickgelu", "dfn5b"))
    assert _released_preprocessing(squashed, shape, "dfn5b").resize == Resize("squash")
    halves = known_tag(BackboneSpec("ViT-L-14", "laion2b_s32b_b82k"))
    assert _released_preprocessing(halves, shape, "b82k") == Preprocessing((0.5,) * 3, (0.5,) * 3)
    assert (
        _released_preprocessing(known_tag(BackboneSpec("ViT-B-16", "openai")), shape, "openai")
        == Preprocessing()
    )


def test_weights_in_the_cache_of_a_release_are_preprocessed_as_it_was(
    originals: dict[str, Backbone], tmp_path: Path
) -> None:
    place = tmp_path / "models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K" / "snapshots" / "1"
    place.mkdir(parents=True)
    path = saved(state_of(originals[PLAIN]), place / "open_clip_pytorch_model.bin")
    backbone, warned = loaded(BackboneSpec(PLAIN, str(path)))
    assert backbone.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3) and not warned


def test_a_config_of_something_else_beside_the_weights_tells_nothing(
    originals: dict[str, Backbone], tmp_path: Path
) -> None:
    place = folder(tmp_path)
    path = saved(state_of(originals[QUICK]), place / "w.pt")
    write_json(place / "config.json", {"model_type": "bert"})
    _, warned = loaded(BackboneSpec(QUICK, str(path)))
    assert "backbone.activation" in warned
