"""A classifier takes classes that it was not trained on, as its method declares, and stays so when saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mmap_model
from mmap_model.backbone import Backbone
from mmap_model.checkpoint import load_prompts, pack_prompts
from mmap_model.errors import ConfigurationError
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.exporting import export
from mmap_model.inference.plain import plain_classes
from mmap_model.inference.trained import Trained
from mmap_model.methods import get_method
from mmap_model.training.pixels import Normalisation

NAMES = ("cat", "umbrella", "sea turtle", "dog")
Load = Callable[..., Classifier]


@pytest.fixture
def load(trained_case: Callable[..., Trained], tiny_backbone_fp64: Backbone, tmp_path: Path) -> Load:
    def make(case: str, kind: str = "prompts") -> Classifier:
        export(trained_case(case, tiny_backbone_fp64), tmp_path / case, kind)
        return mmap_model.load(tmp_path / case, backbone=tiny_backbone_fp64)

    return make


def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)


def by_the_model_itself(trained: Trained, template: str | None) -> Tensor:
    """Logits [B, C] of the task ``photo`` had its classes been ``NAMES`` in the checkpoint."""
    tasks = dict(trained.checkpoint.tasks) | {"photo": NAMES}
    configuration = trained.checkpoint.configuration
    if template is not None:
        recipe = configuration.recipe.__class__(template=template)
        configuration = configuration.__class__(
            method=configuration.method,
            settings=configuration.settings,
            recipe=recipe,
            partition=configuration.partition,
        )
    files = pack_prompts(
        trained.model, 0, configuration=configuration, tasks=tasks, backbone=trained.backbone
    )
    model = load_prompts(files, trained.backbone)
    normalised = Normalisation(trained.backbone)(pixels())
    with torch.no_grad():
        return model.logits(normalised.expand(1, 3, *normalised.shape))[0, 1, :, : len(NAMES)]


@pytest.mark.parametrize("template", [None, "a drawing of the {}."])
def test_a_new_class_gets_its_text_feature_by_the_tuned_model(
    method_case: str,
    template: str | None,
    load: Load,
    trained_case: Callable[..., Trained],
    tiny_backbone_fp64: Backbone,
) -> None:
    trained = trained_case(method_case, tiny_backbone_fp64)
    settings = trained.checkpoint.configuration.settings
    if trained.method.new_classes == "refused":
        with pytest.raises(ConfigurationError, match="cannot classify 'umbrella'"):
            load(method_case).with_classes(NAMES, task="photo")
        return
    if trained.method.new_classes != "text":
        assert not load(method_case).with_classes(NAMES, task="photo").calibrated
        return
    if hasattr(settings, "template"):  # of the method's own, which another test changes
        template = None
    before = load(method_case)
    changed = before.with_classes(NAMES, task="photo", template=template)
    assert changed.classes("photo") == NAMES and changed.classes("art") == before.classes("art")
    assert before.classes("photo") == ("dog", "cat"), "the classifier itself stays as it was"
    assert changed.calibrated
    found = changed.logits(pixels(), "photo")
    assert found.shape == (4, 5) and found[:, 4:].isneginf().all()
    wanted = by_the_model_itself(trained, template)
    torch.testing.assert_close(found[:, :4], wanted, rtol=0, atol=1e-8)
    torch.testing.assert_close(changed.logits(pixels(), "art"), before.logits(pixels(), "art"))


def test_a_template_of_the_methods_own_is_replaced(load: Load) -> None:
    classifier = load("coop single")
    as_before = classifier.with_classes(["dog", "cat"], task="photo", template="{}")
    other = classifier.with_classes(["dog", "cat"], task="photo", template="one {} there")
    logits = classifier.logits(pixels(), "photo")
    torch.testing.assert_close(as_before.logits(pixels(), "photo"), logits, rtol=0, atol=1e-8)
    assert not torch.allclose(other.logits(pixels(), "photo")[:, :2], logits[:, :2], atol=1e-3)


def test_more_classes_than_any_task_had_widen_the_logits(load: Load) -> None:
    classifier = load("mmap")
    changed = classifier.with_classes([f"thing {n}" for n in range(9)], task=1)
    assert changed.logits(pixels(), 1).shape == (4, 9)
    again = changed.with_classes(["dog"], task=1)
    assert again.logits(pixels(), 1).shape == (4, 5)
    (prediction, *_) = again.predict(pixels(), task=1)
    assert prediction.labels == ("dog",) and prediction.probabilities == (1.0,)


def test_a_method_may_give_new_classes_the_row_of_the_plain_clip_and_says_so(
    load: Load, tiny_backbone_fp64: Backbone
) -> None:
    classifier = load("custom finish")
    changed = classifier.with_classes(NAMES, task="photo")
    assert not changed.calibrated
    features = classifier.features(pixels(), "photo")
    scale = classifier.artefact.logit_scale[1]
    zero_shot = scale * features @ plain_classes(tiny_backbone_fp64, NAMES, "a photo of a {}.").T
    found, trained = changed.logits(pixels(), "photo"), classifier.logits(pixels(), "photo")
    torch.testing.assert_close(found[:, 1:3], zero_shot[:, 1:3], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[:, [3, 0]], trained[:, :2], rtol=0, atol=1e-8)
    assert classifier.with_classes(["cat"], task="photo").calibrated, "nothing new, nothing mixed"


def test_a_method_may_refuse_new_classes(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(get_method("mmap")), "new_classes", "refused")
    classifier = load("mmap")
    with pytest.raises(ConfigurationError, match=r"'umbrella'[\s\S]*dog, cat"):
        classifier.with_classes(NAMES, task="photo")
    fewer = classifier.with_classes(["cat"], task="photo")
    torch.testing.assert_close(
        fewer.logits(pixels(), "photo")[:, 0], classifier.logits(pixels(), "photo")[:, 1], rtol=0, atol=1e-8
    )


@pytest.mark.parametrize(
    ("classes", "template", "said"),
    [
        ([], None, "at least one"),
        (["dog", "dog"], None, "once"),
        ("dog", None, "list of names"),
        (["dog"], "a photo", "{}"),
    ],
)
def test_wrong_classes_are_refused(load: Load, classes: list[str], template: str | None, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load("zero_shot").with_classes(classes, task=0, template=template)


def test_without_a_text_tower_classes_are_fixed(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"no text tower[\s\S]*--format prompts"):
        load("mmap", "classifier").with_classes(["dog"], task=0)


@pytest.mark.parametrize(
    ("case", "kind"), [("mmap", "prompts"), ("custom finish", "prompts"), ("coop single", "prompts")]
)
def test_saved_with_new_classes_it_has_them_when_loaded(
    case: str, kind: str, load: Load, tmp_path: Path, tiny_backbone_fp64: Backbone
) -> None:
    changed = load(case, kind).with_classes(NAMES, task="photo", template="a drawing of the {}.")
    changed.save(tmp_path / "saved")
    loaded = mmap_model.load(tmp_path / "saved", backbone=tiny_backbone_fp64)
    assert loaded.classes("photo") == NAMES and loaded.calibrated == changed.calibrated
    assert torch.equal(loaded.logits(pixels(), "photo"), changed.logits(pixels(), "photo"))
    assert loaded.artefact.tasks[1].template == "a drawing of the {}."


@pytest.mark.parametrize("case", ["full_ft", "full_ft single", "zero_shot"])
def test_an_open_clip_folder_takes_new_classes(
    case: str, trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    trained = trained_case(case, tiny_backbone)
    export(trained, tmp_path / "out", "open_clip")
    changed = mmap_model.load(tmp_path / "out").with_classes(NAMES, task="photo")
    wanted = by_the_model_itself(trained, None)
    torch.testing.assert_close(changed.logits(pixels(), "photo")[:, :4], wanted, rtol=0, atol=1e-4)
    changed.save(tmp_path / "saved")
    loaded = mmap_model.load(tmp_path / "saved")
    assert torch.equal(loaded.logits(pixels(), "photo"), changed.logits(pixels(), "photo"))


def test_plain_class_features_are_open_clips(tiny_backbone: Backbone) -> None:
    texts = [f"a photo of a {name}." for name in NAMES]
    wanted = tiny_backbone.clip.encode_text(tiny_backbone.tokenize(texts), normalize=True)
    found = plain_classes(tiny_backbone, NAMES, "a photo of a {}.")
    torch.testing.assert_close(found, F.normalize(wanted, dim=-1), rtol=0, atol=1e-5)
