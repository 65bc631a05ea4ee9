"""α and β of a cache, chosen by leaving out each labelled image in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data import Dataset
from mmap_model.methods import Problem, blend, get_method
from mmap_model.methods.blend import ALPHAS, BETAS, LabelledTask, choose_blend
from mmap_model.methods.model import TunedModel
from mmap_model.plain import to_plain
from mmap_model.testing.support import CLASSES, IMAGES, NoiseSupport
from mmap_model.training import FusedRun

SEEDS, VIEWS = (1, 2), 2
TEMPLATE = "a photo of a {}."
METHODS = ("tip_adapter", "tip_adapter_f")


class NearTexts(NoiseSupport):
    """Images near their class's text and near each other: neither text nor cache is best alone."""

    def __init__(self, seeds: Sequence[int], backbone: Backbone) -> None:
        super().__init__(seeds, backbone)
        with torch.no_grad():
            self._texts = [F.normalize(texts(backbone, names), dim=-1) for names in CLASSES]

    def embeddings(self, views: int) -> list[list[Tensor]]:
        found = super().embeddings(views)
        for own in found:
            for t, (noise, labels) in enumerate(zip(own, self.labels()[0], strict=True)):
                style = torch.randn(
                    len(CLASSES[t]), noise.shape[-1], generator=torch.Generator().manual_seed(t)
                )
                own[t] = 0.5 * noise + 2 * self._texts[t][labels] + 0.8 * style.to(noise)[labels]
        return found


class OnceEach(NoiseSupport):
    """One image of every class, of as many as a task has images."""

    def labels(self) -> list[list[Tensor]]:
        return [[torch.arange(len(names)) for names in SINGLE] for _ in SEEDS]


SINGLE = tuple(tuple(f"class {c}" for c in range(count)) for count in IMAGES)


def texts(backbone: Backbone, names: Sequence[str]) -> Tensor:
    found: Tensor = backbone.clip.encode_text(
        backbone.tokenize([TEMPLATE.replace("{}", name.replace("_", " ")) for name in names])
    )
    return found


def built(
    backbone: Backbone,
    method: str = "tip_adapter",
    support: NoiseSupport | None = None,
    seeds: Sequence[int] = SEEDS,
    classes: Sequence[Sequence[str]] = CLASSES,
    **settings: Any,
) -> Any:
    chosen = get_method(method).Settings(**{"views": VIEWS, "blend": "support", **settings})
    problem = Problem(
        classes=classes,
        template=TEMPLATE,
        partitions=[None] * len(seeds),
        train_seeds=seeds,
        images=IMAGES,
    )
    model: TunedModel = get_method(method).build(chosen, backbone, problem)
    model.fit(support or NearTexts(seeds, backbone))
    return model


def left_out(
    backbone: Backbone, support: NoiseSupport, regime: str, r: int, alpha: float, beta: float
) -> tuple[float, float]:
    """Accuracy and cross-entropy of labelled images without their own keys, means over tasks, by loops."""
    keys = [F.normalize(own.mean(0), dim=-1) for own in support.embeddings(VIEWS)[r]]
    labels = [own.tolist() for own in support.labels()[r]]
    accuracies, losses = [], []
    for t, names in enumerate(CLASSES):
        rows = F.normalize(texts(backbone, names), dim=-1)
        hits, total = 0, 0.0
        for i, image in enumerate(keys[t]):
            logits = backbone.clip.logit_scale.exp() * rows @ image
            for u, others in enumerate(CLASSES):
                for j, key in enumerate(keys[u]):
                    name = others[labels[u][j]]
                    if (u, j) == (t, i) or name not in names or (regime == "single" and u != t):
                        continue
                    logits[names.index(name)] += alpha * torch.exp(-beta * (1 - image @ key))
            hits += int(logits.argmax()) == labels[t][i]
            total -= float(logits.log_softmax(-1)[labels[t][i]])
        accuracies.append(hits / len(keys[t]))
        losses.append(total / len(keys[t]))
    return sum(accuracies) / len(CLASSES), sum(losses) / len(CLASSES)


@pytest.mark.parametrize("regime", ["single", "multi"])
@torch.no_grad()
def test_the_pair_that_classifies_labelled_images_best_without_their_own_keys_is_chosen(
    tiny_backbone_fp64: Backbone, regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (ALPHAS[1:10:2], BETAS[1:8:2])  # the loops take their time
    monkeypatch.setattr("mmap_model.methods.blend.ALPHAS", few[0])
    monkeypatch.setattr("mmap_model.methods.blend.BETAS", few[1])
    support = NearTexts(SEEDS, tiny_backbone_fp64)
    model = built(tiny_backbone_fp64, support=support, regime=regime)
    pairs = [(alpha, beta) for alpha in few[0] for beta in few[1]]
    for r in range(len(SEEDS)):
        scores = {pair: left_out(tiny_backbone_fp64, support, regime, r, *pair) for pair in pairs}
        best = max(pairs, key=lambda pair: (round(scores[pair][0], 12), -scores[pair][1]))
        assert len({accuracy for accuracy, _ in scores.values()}) > 2, "the grid decides something"
        assert scores[best][0] > max(scores[few[0][0], few[1][0]][0], scores[few[0][-1], few[1][0]][0])
        assert (model.alpha[r].item(), model.beta[r].item()) == best


def test_the_grid_has_the_published_starts_and_is_as_wide_as_published_searches() -> None:
    assert 1.17 in ALPHAS and 1.0 in BETAS
    assert min(ALPHAS) <= 0.1 and 20 < max(ALPHAS) <= 50 and 20 < max(BETAS) <= 50
    assert list(ALPHAS) == sorted(ALPHAS) and list(BETAS) == sorted(BETAS)


@pytest.mark.parametrize("regime", ["single", "multi"])
def test_one_image_of_every_class_chooses_nothing(tiny_backbone_fp64: Backbone, regime: str) -> None:
    support = OnceEach(SEEDS, tiny_backbone_fp64)
    model = built(tiny_backbone_fp64, support=support, classes=SINGLE, regime=regime, alpha=3.0, beta=5.5)
    assert model.alpha.flatten().tolist() == [3.0, 3.0]
    assert model.beta.flatten().tolist() == [5.5, 5.5], "in the other tasks' styles its class tells little"


def hand_made(labels: Sequence[int]) -> LabelledTask:
    """Images on a circle, those of a class near each other; the text knows nothing."""
    classes = max(labels) + 1
    angles = torch.tensor([label + 0.1 * place for place, label in enumerate(labels)], dtype=torch.float64)
    found = torch.tensor(labels)
    return LabelledTask(
        labels=found,
        text=torch.zeros(len(labels), classes, dtype=torch.float64),
        keys=torch.stack([angles.cos(), angles.sin()], 1),
        own=torch.arange(len(labels)),
        values=F.one_hot(found, classes).double(),
    )


def test_the_only_image_of_a_class_is_not_classified_but_its_key_counts_for_others() -> None:
    task = hand_made([0, 1, 1, 1, 2, 2])
    assert task.judging().tolist() == [False, True, True, True, True, True]
    without = dataclasses.replace(task, values=task.values * torch.tensor([0.0, 1.0, 1.0]))
    assert choose_blend([task]) is not None
    losses = [blend._totals(own, own.judging())[1] for own in (task, without)]
    assert losses[0][0, 0] > losses[1][0, 0], "a key of another class takes probability away"


def test_fewer_than_half_of_the_images_choose_nothing() -> None:
    assert choose_blend([hand_made([0, 1, 2, 3, 3])]) is None
    assert choose_blend([hand_made([0, 1, 2, 2])]) is not None
    assert choose_blend([hand_made([0, 1]), hand_made([0, 0, 1, 1])]) is not None


def test_of_pairs_that_are_equal_the_first_is_chosen() -> None:
    task = hand_made([0, 0, 1, 1])
    nothing = dataclasses.replace(task, values=torch.zeros_like(task.values))
    assert choose_blend([nothing]) == (ALPHAS[0], BETAS[0])


@pytest.mark.parametrize("method", METHODS)
def test_given_weights_give_the_logits_of_the_plain_formula_to_the_last_bit(
    tiny_backbone: Backbone, method: str
) -> None:
    alpha, beta = 1.17, 5.3
    support = NoiseSupport(SEEDS, tiny_backbone)
    model = built(tiny_backbone, method, support, alpha=alpha, beta=beta, blend="given", regime="multi")
    images = F.normalize(
        torch.randn(2, 3, 4, model.keys.shape[-1], generator=torch.Generator().manual_seed(2)), dim=-1
    )
    classes = model.class_features()
    scores = TunedModel.compare(model, images, classes)
    near = (beta * (images @ model.keys.unsqueeze(1).transpose(-1, -2) - 1)).exp()
    assert torch.equal(model.compare(images, classes), scores + alpha * near @ model.values())


@pytest.mark.parametrize("method", METHODS)
def test_given_weights_stand_in_no_checkpoint_and_no_key(tiny_backbone: Backbone, method: str) -> None:
    support = NoiseSupport(SEEDS, tiny_backbone)
    given = built(tiny_backbone, method, support, blend="given")
    chosen = built(tiny_backbone, method, support)
    assert set(given.replicate_state(0)) == {"keys", "key_labels"}, "those of earlier versions load"
    assert set(chosen.replicate_state(0)) == {"keys", "key_labels", "alpha", "beta"}
    kind = get_method(method).Settings
    assert "blend" not in to_plain(kind()) and to_plain(kind(blend="support"))["blend"] == "support"


@pytest.mark.parametrize("method", METHODS)
def test_each_replicate_has_its_own_weights_whatever_is_beside_it(
    tiny_backbone_fp64: Backbone, method: str
) -> None:
    seeds = (1, 2, 3, 4, 5, 6)
    support = NoiseSupport(seeds, tiny_backbone_fp64)
    model = built(tiny_backbone_fp64, method, support, seeds=seeds)
    pairs = list(zip(model.alpha.flatten().tolist(), model.beta.flatten().tolist(), strict=True))
    assert len({*pairs}) > 1
    for seed, pair in zip(seeds[:2], pairs, strict=False):
        alone = built(tiny_backbone_fp64, method, NoiseSupport((seed,), tiny_backbone_fp64), seeds=(seed,))
        assert (alone.alpha.item(), alone.beta.item()) == pair


def test_what_is_deployed_has_the_chosen_weights(tiny_backbone_fp64: Backbone) -> None:
    support = NearTexts((1,), tiny_backbone_fp64)
    model = built(tiny_backbone_fp64, support=support, seeds=(1,))
    beside = model.beside_head((1, 0))
    assert (beside.alpha.item(), beside.beta.item()) == (model.alpha.item(), model.beta.item())
    assert (beside.alpha.item(), beside.beta.item()) != (1.17, 1.0)


def test_choosing_leaves_no_text_features_behind(tiny_backbone_fp64: Backbone) -> None:
    model = built(tiny_backbone_fp64)
    assert model._constant is None, "a resumed run, which does not choose again, would have others in bf16"


@pytest.fixture(scope="module")
def dataset(pattern_dataset: Callable[..., Dataset]) -> Dataset:
    few = {"fan": 6, "tv": 6}
    return pattern_dataset({"art": ("warm", {"mug": 6, **few}), "map": ("cold", few)})


def run_of(backbone: Backbone, dataset: Dataset) -> FusedRun:
    settings = get_method("tip_adapter_f").Settings(views=2, blend="support")
    configuration = Configuration(
        method="tip_adapter_f", settings=settings, recipe=Recipe(epochs=2, batch_size=4, lr=0.1, views=3)
    )
    return FusedRun(
        [
            Cell(
                configuration=configuration,
                split=Split(shots=2),
                seeds=Seeds.both(seed),
                precision="fp64",
                dataset="0" * 32,
                backbone="b",
            )
            for seed in SEEDS
        ],
        backbone,
        dataset,
    )


def test_chosen_weights_stay_while_keys_train_and_when_a_run_goes_on(
    tiny_backbone_fp64: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first = run_of(tiny_backbone_fp64, dataset), run_of(tiny_backbone_fp64, dataset)
    list(whole.epochs())
    next(first.epochs())
    state, chosen = first.state(), first._model.fitted()
    resumed = run_of(tiny_backbone_fp64, dataset)
    monkeypatch.setattr("mmap_model.methods.cache.CacheModel.fit", lambda self, support: pytest.fail("again"))
    resumed.restore(state)
    list(resumed.epochs())
    assert {"alpha", "beta"} <= set(chosen)
    for name in ("alpha", "beta"):
        assert torch.equal(resumed._model.fitted()[name], chosen[name])
        assert torch.equal(whole._model.fitted()[name], chosen[name])
    assert torch.equal(resumed._model.get_parameter("keys"), whole._model.get_parameter("keys"))
