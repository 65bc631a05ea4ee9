"""Class features of several texts are averaged, by the method's own kind of mean, and kept with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.checkpoint import load_prompts, pack_prompts
from mmap_model.configuration import Recipe, Seeds, Split, TaskTemplates
from mmap_model.errors import ConfigurationError
from mmap_model.inference.exporting import export
from mmap_model.inference.new_classes import Rewording
from mmap_model.inference.trained import Trained
from mmap_model.methods import Problem, get_method
from mmap_model.templates import TEMPLATE_SETS
from mmap_model.testing.support import CLASSES

TASKS = ("art", "photo", "map")
RECIPE = Recipe(
    templates=("clip_7", "a {}."), task_templates=(TaskTemplates(task="photo", templates=("one {}",)),)
)
TEXTS = ((*TEMPLATE_SETS["clip_7"], "a {}."), ("one {}",), (*TEMPLATE_SETS["clip_7"], "a {}."))


def raw(backbone: Backbone, text: str, names: tuple[str, ...]) -> Tensor:
    texts = [text.replace("{}", name.replace("_", " ")) for name in names]
    found: Tensor = backbone.clip.encode_text(backbone.tokenize(texts))
    return found


def files(backbone: Backbone, method: str) -> dict[str, bytes]:
    settings = get_method(method).Settings()
    problem = Problem(
        classes=CLASSES,
        template=RECIPE.template,
        templates=RECIPE.templates_of(TASKS),
        partitions=[None],
        train_seeds=[1],
    )
    model = get_method(method).build(settings, backbone, problem)
    configuration = Configuration(method=method, settings=settings, recipe=RECIPE)
    tasks = dict(zip(TASKS, CLASSES, strict=True))
    return pack_prompts(model, 0, configuration=configuration, tasks=tasks, backbone=backbone)


@pytest.mark.parametrize(("method", "unit"), [("zero_shot", True), ("clip_adapter", True), ("zs_lp", False)])
def test_features_are_averaged_unit_or_raw_and_loaded_again(
    tiny_backbone_fp64: Backbone, method: str, unit: bool
) -> None:
    model = load_prompts(files(tiny_backbone_fp64, method), tiny_backbone_fp64)
    for t, names in enumerate(CLASSES):
        own = [raw(tiny_backbone_fp64, text, names) for text in TEXTS[t]]
        mean = torch.stack([F.normalize(f, dim=-1) if unit else f for f in own]).mean(0)
        found = model.class_features()[0, t, : len(names)]
        torch.testing.assert_close(found, F.normalize(mean, dim=-1), rtol=0, atol=1e-12)


def test_a_new_class_is_averaged_over_the_same_texts(tiny_backbone_fp64: Backbone) -> None:
    trained = Trained.of(files(tiny_backbone_fp64, "zs_lp"), tiny_backbone_fp64)
    rows = Rewording(trained)(0, ["dog", "umbrella"], None)
    own = [F.normalize(raw(tiny_backbone_fp64, text, ("umbrella",)), dim=-1) for text in TEXTS[0]]
    wanted = F.normalize(torch.stack(own).mean(0), dim=-1)[0]
    assert rows.mixed
    torch.testing.assert_close(rows.features[1], wanted, rtol=0, atol=1e-12)


def test_methods_that_tune_texts_have_one_template() -> None:
    def cell(method: str) -> Cell:
        settings = get_method(method).Settings()
        return Cell(
            configuration=Configuration(method=method, settings=settings, recipe=RECIPE),
            split=Split(shots=1),
            seeds=Seeds.both(1),
            dataset="d",
            backbone="b",
        )

    assert cell("vpt").key
    with pytest.raises(ConfigurationError, match="coop tunes the texts") as raised:
        cell("coop")
    assert raised.value.where == "recipe.templates"


def test_sets_and_tasks_that_are_not_there_are_named_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="clip_80") as raised:
        Recipe(templates=("clip_81",))
    assert raised.value.where == "recipe.templates"
    with pytest.raises(ConfigurationError, match="photo") as raised:
        Recipe(task_templates=(TaskTemplates(task="foto", templates=("a {}",)),)).templates_of(TASKS)
    assert raised.value.where == "recipe.task_templates.task"
    assert Recipe().templates_of(TASKS) is None


def test_a_folder_for_open_clip_holds_no_mean_over_texts(
    tiny_backbone_fp64: Backbone, tmp_path: Path
) -> None:
    trained = Trained.of(files(tiny_backbone_fp64, "zero_shot"), tiny_backbone_fp64)
    with pytest.raises(ConfigurationError, match="means over several texts"):
        export(trained, tmp_path / "out", "open_clip")
    export(trained, tmp_path / "out", "prompts")
