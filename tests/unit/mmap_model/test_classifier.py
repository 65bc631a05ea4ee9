"""A classifier gives what the trained model gave, from the files alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmap_model
from mmap_model.backbone import Backbone, BackboneSpec, load_backbone, random_backbone
from mmap_model.errors import BackboneError, CheckpointError, ConfigurationError
from mmap_model.inference.artefact import DESCRIPTION, file_entry
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.exporting import export
from mmap_model.inference.trained import Trained
from mmap_model.methods import get_method
from mmap_model.training.pixels import Normalisation

TASK = torch.tensor([2, 0, 1, 1, 2, 0, 0])
Load = Callable[..., Classifier]


@pytest.fixture
def load(trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path) -> Load:
    """Exports one of the methods and loads it again."""

    def make(case: str = "mmap", kind: str = "prompts", backbone: Backbone = tiny_backbone) -> Classifier:
        folder = tmp_path / f"{case} {kind}"
        export(trained_case(case, backbone), folder, kind)
        return mmap_model.load(folder, backbone=backbone)

    return make


def pixels(count: int = len(TASK)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)


def expected(trained: Trained, images: Tensor, task: Tensor) -> Tensor:
    normalised = Normalisation(trained.backbone)(images)
    with torch.no_grad():
        logits = trained.model.logits(normalised.expand(1, trained.model.tasks, *images.shape))[0]
    return logits[task, torch.arange(len(task))]


@pytest.mark.parametrize("kind", ["prompts", "classifier"])
def test_logits_are_those_of_the_trained_model(
    method_case: str,
    kind: str,
    load: Load,
    trained_case: Callable[..., Trained],
    tiny_backbone_fp64: Backbone,
) -> None:
    trained = trained_case(method_case, tiny_backbone_fp64)
    classifier = load(method_case, kind, tiny_backbone_fp64)
    wanted = expected(trained, pixels(), TASK)
    for given in (pixels(), pixels().float()):
        torch.testing.assert_close(classifier.logits(given, TASK), wanted, rtol=0, atol=1e-8)
    for name, index in (("art", 0), ("map", 2)):
        one = expected(trained, pixels(), torch.full((7,), index))
        torch.testing.assert_close(classifier.logits(pixels(), name), one, rtol=0, atol=1e-8)
        torch.testing.assert_close(classifier.logits(pixels(), index), one, rtol=0, atol=1e-8)
    features = trained.model.image_features(
        Normalisation(trained.backbone)(pixels()).expand(1, 3, 7, 3, 16, 16)
    )
    torch.testing.assert_close(
        classifier.features(pixels(), TASK), features[0, TASK, torch.arange(7)].detach(), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("case", ["mmap", "full_ft", "custom finish"])
@pytest.mark.parametrize("kind", ["prompts", "classifier"])
def test_plain_features_are_those_of_the_clip_before_tuning(
    case: str, kind: str, load: Load, tiny_backbone: Backbone
) -> None:
    found = load(case, kind).plain_features(pixels())
    given = Normalisation(tiny_backbone)(pixels())
    wanted = tiny_backbone.clip.encode_image(given, normalize=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_the_classifier_says_what_it_classifies(load: Load) -> None:
    classifier = load()
    assert classifier.tasks == ("art", "photo", "map")
    assert classifier.classes("photo") == classifier.classes(1) == ("dog", "cat")
    assert classifier.image_size == 16 and classifier.calibrated and classifier.device.type == "cpu"


@pytest.mark.parametrize(
    ("given", "task", "said"),
    [
        (torch.zeros(2, 3, 16, 15), 0, "pixels"),
        (torch.zeros(3, 16, 16), 0, "pixels"),
        (pixels(2), torch.tensor([0, 3]), "task"),
        (pixels(2), torch.tensor([0, -1]), "task"),
        (pixels(2), torch.tensor([0]), "task"),
        (pixels(2), torch.tensor([0.0, 1.0]), "task"),
    ],
)
def test_wrong_pixels_and_tasks_are_refused(load: Load, given: Tensor, task: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load("zero_shot").logits(given, task)


def test_mean_features_of_the_tasks_come_along(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    means = torch.nn.functional.normalize(torch.arange(72.0).view(3, 24).sin(), dim=1)
    artefact = export(
        trained_case("mmap", tiny_backbone), tmp_path / "out", "classifier", task_features=means
    )
    assert artefact.task_features in artefact.files
    classifier = mmap_model.load(tmp_path / "out", backbone=tiny_backbone)
    assert classifier.task_features is not None
    torch.testing.assert_close(classifier.task_features, means)


def test_another_clip_is_refused(load: Load, tmp_path: Path) -> None:
    load("mmap", "classifier")
    load("mmap", "prompts")
    for kind in ("classifier", "prompts"):
        with pytest.raises(CheckpointError, match="fingerprint"):
            mmap_model.load(tmp_path / f"mmap {kind}", backbone=random_backbone(seed=1))
        with pytest.raises(BackboneError, match="give it as backbone"):
            mmap_model.load(tmp_path / f"mmap {kind}")


def test_the_clip_is_loaded_from_where_the_artefact_or_the_caller_says(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    export(trained_case("zero_shot", tiny_backbone), tmp_path / "clip", "open_clip")
    named = load_backbone(BackboneSpec(f"local-dir:{tmp_path / 'clip'}"))
    trained = trained_case("mmap", named)
    for kind in ("prompts", "classifier"):
        artefact = export(trained, tmp_path / kind, kind)
        assert artefact.backbone.model == f"local-dir:{tmp_path / 'clip'}"
    wanted = expected(trained, pixels(), TASK)
    for kind in ("prompts", "classifier"):
        found = mmap_model.load(tmp_path / kind).logits(pixels(), TASK)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    (tmp_path / "clip").rename(tmp_path / "moved")
    for kind in ("prompts", "classifier"):
        with pytest.raises(BackboneError, match="clip"):
            mmap_model.load(tmp_path / kind)
        for place in (f"local-dir:{tmp_path / 'moved'}", BackboneSpec(f"local-dir:{tmp_path / 'moved'}")):
            found = mmap_model.load(tmp_path / kind, backbone=place).logits(pixels(), TASK)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_an_unknown_kind_is_refused(load: Load, tmp_path: Path) -> None:
    load("zero_shot")
    path = tmp_path / "zero_shot prompts" / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "promts"}))
    with pytest.raises(ConfigurationError, match="did you mean 'prompts'"):
        mmap_model.load(path.parent)


def test_some_tasks_alone_are_exported(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    trained = trained_case("mmap", tiny_backbone)
    wanted = expected(trained, pixels(), torch.ones(7, dtype=torch.int64))
    for kind in ("prompts", "classifier"):
        export(trained_case("mmap", tiny_backbone, ["map", "photo"]), tmp_path / kind, kind)
        classifier = mmap_model.load(tmp_path / kind, backbone=tiny_backbone)
        assert classifier.tasks == ("map", "photo")
        torch.testing.assert_close(
            classifier.logits(pixels(), "photo")[:, :2], wanted[:, :2], rtol=0, atol=1e-5
        )
    with pytest.raises(ConfigurationError, match="art"):
        trained_case("mmap", tiny_backbone, ["arts"])


def test_in_bf16_only_the_towers_are_rounded(load: Load, tmp_path: Path, tiny_backbone: Backbone) -> None:
    exact = load("mmap").logits(pixels(), TASK)
    rounded = mmap_model.load(tmp_path / "mmap prompts", backbone=tiny_backbone, precision="bf16")
    logits = rounded.logits(pixels(), TASK)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float()), "the logits themselves are not rounded"
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.5)


def test_a_saved_classifier_is_the_same(load: Load, tmp_path: Path, tiny_backbone: Backbone) -> None:
    for case, kind in (
        ("mmap", "prompts"),
        ("full_ft single", "classifier"),
        ("custom finish", "classifier"),
    ):
        classifier = load(case, kind)
        again = classifier.save(tmp_path / "again" / case)
        assert again == classifier.artefact
        loaded = mmap_model.load(tmp_path / "again" / case, backbone=tiny_backbone)
        assert torch.equal(loaded.logits(pixels(), TASK), classifier.logits(pixels(), TASK))


def test_what_is_gone_cannot_be_saved(load: Load, tmp_path: Path) -> None:
    classifier = load()
    (tmp_path / "mmap prompts").rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"gone[\s\S]*where it is now"):
        classifier.save(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_classifier_file_is_small_beside_the_clip(load: Load, tiny_backbone: Backbone) -> None:
    tuned = get_method("mmap")
    artefact = load("mmap", "classifier").artefact
    assert tuned.trains and not artefact.text_tower
    image_tower = sum(p.nbytes for p in tiny_backbone.clip.visual.parameters())
    assert sum(entry.bytes for entry in artefact.files.values()) < image_tower / 4
    everything = load("full_ft", "classifier").artefact
    assert image_tower < sum(entry.bytes for entry in everything.files.values()) < 1.2 * image_tower


def test_an_artefact_runs_no_code_that_it_names_unless_it_is_trusted(
    load: Load, tmp_path: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("mmap")
    folder, started = tmp_path / "mmap prompts", tmp_path / "started"
    (folder / "evil.py").write_text(f"open({str(started)!r}, 'w')\n")
    for method in (f"{folder}/evil.py:Mine", "antigravity:Mine"):
        prompts, description = folder / "prompts.json", folder / DESCRIPTION
        said = json.loads(prompts.read_text())
        said["configuration"]["method"] = method
        prompts.write_text(json.dumps(said))
        about = json.loads(description.read_text())
        about["files"]["prompts.json"] = vars(file_entry(prompts))
        description.write_text(json.dumps(about))
        with pytest.raises(ConfigurationError, match="Python code that this process has not loaded"):
            mmap_model.load(folder, backbone=tiny_backbone)
    assert not started.exists() and "antigravity" not in sys.modules
    said["configuration"]["method"] = f"{folder}/evil.py:Mine"
    prompts.write_text(json.dumps(said))
    about["files"]["prompts.json"] = vars(file_entry(prompts))
    description.write_text(json.dumps(about))
    with pytest.raises(ConfigurationError, match="Mine"):
        mmap_model.load(folder, backbone=tiny_backbone, trusted=True)
    assert started.exists(), "who trusts it has it run"
    (folder / "evil.py").rename(folder / "other.py")
    started.unlink()
    said["configuration"]["method"] = f"{folder}/other.py:Mine"
    prompts.write_text(json.dumps(said))
    about["files"]["prompts.json"] = vars(file_entry(prompts))
    description.write_text(json.dumps(about))
    monkeypatch.setenv("MMAP_TRUST_CODE", "1")
    with pytest.raises(ConfigurationError, match="Mine"):
        mmap_model.load(folder, backbone=tiny_backbone)
    assert started.exists()
