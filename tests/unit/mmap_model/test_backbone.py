"""Loading, refusing and fingerprinting backbones; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from mmap_model.architecture import model_config, read_architecture
from mmap_model.backbone import Backbone, load_backbone, random_backbone
from mmap_model.backbone_identity import fingerprint_of
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.errors import BackboneError
from mmap_model.methods import get_method
from mmap_model.training import FusedRun


def write_local_dir(
    backbone: Backbone, folder: Path, weights: str = "open_clip_model.safetensors"
) -> BackboneSpec:
    """Save ``backbone`` as an open_clip ``local-dir:`` and name it."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": backbone.image_mean, "std": backbone.image_std}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": backbone.config, "preprocess_cfg": preprocess})
    )
    state = {name: tensor.clone() for name, tensor in backbone.clip.state_dict().items()}
    if weights.endswith(".safetensors"):
        save_file(state, folder / weights)
    else:
        torch.save(state, folder / weights)
    return BackboneSpec(f"local-dir:{folder}")


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_vit_b_16_has_exactly_the_parameters_of_its_architecture() -> None:
    from open_clip import CLIP

    with torch.device("meta"):  # every tensor with its shape, without drawing 150 million numbers
        clip = CLIP(**model_config("ViT-B-16-quickgelu"))
    counted = sum(p.numel() for p in clip.parameters())
    assert counted == read_architecture("ViT-B-16-quickgelu").parameters == 149_620_737


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "pytorch_model.bin"])
def test_local_dir_loads_the_same_features_frozen(tiny_backbone: Backbone, tmp_path: Path, name: str) -> None:
    loaded = load_backbone(write_local_dir(tiny_backbone, tmp_path / "clip", name))
    pixels = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded.clip.encode_image(pixels), tiny_backbone.clip.encode_image(pixels))
    assert not any(p.requires_grad for p in loaded.clip.parameters())
    assert not loaded.clip.training
    assert loaded.architecture.text == tiny_backbone.architecture.text
    assert loaded.image_mean == pytest.approx(tiny_backbone.image_mean)


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "pytorch_model.bin"])
def test_fingerprint_is_known_before_loading_and_whatever_the_format(
    tiny_backbone: Backbone, tmp_path: Path, name: str
) -> None:
    spec = write_local_dir(tiny_backbone, tmp_path / "clip", name)
    assert fingerprint_of(spec) == load_backbone(spec).fingerprint == tiny_backbone.fingerprint
    assert fingerprint_of(spec) == tiny_backbone.fingerprint


def test_fingerprint_follows_weights_activation_and_normalisation(
    tiny_backbone: Backbone, tmp_path: Path
) -> None:
    spec = write_local_dir(tiny_backbone, tmp_path / "clip")
    path = tmp_path / "clip" / "open_clip_config.json"
    plain = json.loads(path.read_text())
    fingerprints = {tiny_backbone.fingerprint, random_backbone(seed=1).fingerprint}
    for section, key, value in (
        ("model_cfg", "quick_gelu", True),
        ("preprocess_cfg", "mean", [0.5, 0.5, 0.5]),
    ):
        path.write_text(json.dumps({**plain, section: {**plain[section], key: value}}))
        fingerprints.add(fingerprint_of(spec))
    assert len(fingerprints) == 4


def test_unused_vocabulary_rows_are_not_counted(tmp_path: Path) -> None:
    backbone = random_backbone()
    with torch.no_grad():
        backbone.clip.token_embedding.weight[100:1100] = 0
    loaded = load_backbone(write_local_dir(backbone, tmp_path / "clip"))
    shape = read_architecture(f"local-dir:{tmp_path / 'clip'}")
    assert loaded.architecture == shape
    assert loaded.parameters == shape.parameters == backbone.parameters
    assert loaded.counted_parameters == shape.counted_parameters == backbone.parameters - 1000 * 32
    assert loaded.fingerprint == backbone.fingerprint


def test_full_fine_tuning_counts_and_moves_no_unused_row(tmp_path: Path, pattern_dataset: Any) -> None:
    backbone = random_backbone()
    with torch.no_grad():
        backbone.clip.token_embedding.weight[100:200] = 0
    backbone = load_backbone(write_local_dir(backbone, tmp_path / "clip"))
    method = get_method("full_ft")
    for regime, copies in (("multi", 1), ("single", 4)):
        count = method.count(method.Settings(regime=regime), backbone.architecture, tasks=4, groups=0)
        assert count == copies * backbone.counted_parameters
    configuration = Configuration(
        method="full_ft", settings=method.Settings(), recipe=Recipe(epochs=2, batch_size=4, lr=0.01)
    )
    cell = Cell(
        configuration=configuration, split=Split(shots=2), seeds=Seeds.both(1), dataset="d", backbone="b"
    )
    run = FusedRun([cell], backbone, pattern_dataset({"art": ("warm", {"mug": 6, "fan": 6})}))
    list(run.epochs())
    result = run.finish()[cell.key]
    table = load(result.files["prompts.safetensors"])["clip/token_embedding/weight"]
    assert result.parameters == backbone.counted_parameters
    assert not table[:, 100:200].any() and not torch.equal(table[0], backbone.clip.token_embedding.weight)


def test_random_backbones_differ_by_seed_and_leave_the_global_stream_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (random_backbone(seed=s) for s in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_folder_without_weights_is_an_error(tiny_backbone: Backbone, tmp_path: Path) -> None:
    spec = write_local_dir(tiny_backbone, tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    with pytest.raises(BackboneError, match="holds no weights"):
        load_backbone(spec)
    with pytest.raises(BackboneError, match="holds no weights"):
        fingerprint_of(spec)


def test_weights_of_another_shape_are_an_error(tiny_backbone: Backbone, tmp_path: Path) -> None:
    spec = write_local_dir(tiny_backbone, tmp_path / "clip")
    save_file({"visual.conv1.weight": torch.zeros(3)}, tmp_path / "clip" / "open_clip_model.safetensors")
    with pytest.raises(BackboneError, match="lacks positional_embedding, text_projection"):
        load_backbone(spec)


def test_a_file_that_is_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_text("not a checkpoint")
    with pytest.raises(BackboneError, match="is text, not weights"):
        load_backbone(BackboneSpec("ViT-B-32", str(path)))


def test_missing_files_and_unknown_tags_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="does not exist"):
        load_backbone(BackboneSpec("ViT-B-32", str(tmp_path / "absent.pt")))
    with pytest.raises(BackboneError, match="laion2b_s34b_b79k"):
        load_backbone(BackboneSpec("ViT-B-32", "laion3b"))


def test_weights_must_be_named_once() -> None:
    with pytest.raises(BackboneError, match="no weights"):
        BackboneSpec("ViT-B-16-quickgelu")
    with pytest.raises(BackboneError, match="without the model that it belongs to"):
        BackboneSpec("symbols", "openai")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    def offline(*_: object, **__: object) -> str:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(pretrained, "download_pretrained", offline)
    with pytest.raises(BackboneError, match="HF_HOME") as caught:
        load_backbone(BackboneSpec("ViT-B-32-quickgelu", "openai"))
    assert "name resolution" in str(caught.value)


def test_a_tag_trained_with_quickgelu_is_refused_for_a_gelu_model() -> None:
    with pytest.raises(BackboneError, match="use ViT-B-16-quickgelu"):
        load_backbone(BackboneSpec("ViT-B-16", "openai"))
    with pytest.raises(BackboneError, match="trained with GELU"):
        load_backbone(BackboneSpec("ViT-B-16-quickgelu", "laion2b_s34b_b88k"))


def test_too_long_texts_are_refused_instead_of_cut(tiny_backbone: Backbone) -> None:
    assert tiny_backbone.tokenize([" ".join(["dog"] * 75)]).shape == (1, 77)
    with pytest.raises(BackboneError, match="78 tokens"):
        tiny_backbone.tokenize([" ".join(["dog"] * 76)])


def test_tokens_are_those_of_open_clip(tiny_backbone: Backbone) -> None:
    import open_clip

    texts = ["a photo of a dog.", "The_Eiffel_Tower", "", "çà et là &amp; more"]
    assert torch.equal(tiny_backbone.tokenize(texts), open_clip.get_tokenizer("ViT-B-16")(texts))


@pytest.mark.slow
def test_a_torchscript_archive_as_openai_published_loads(tmp_path: Path) -> None:
    import open_clip

    clip = open_clip.create_model("ViT-B-32-quickgelu").eval()
    path, pixels = tmp_path / "weights.pt", torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        inputs = (pixels, torch.full((1, 77), 49407))
        torch.jit.trace(clip, inputs, check_trace=False).save(path)
        loaded = load_backbone(BackboneSpec("ViT-B-32-quickgelu", str(path)))
        torch.testing.assert_close(loaded.clip.encode_image(pixels), clip.encode_image(pixels))
