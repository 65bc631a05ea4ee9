"""Embeddings of the plain image tower serve the next cells: the same numbers, charged as if computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data import Dataset
from mmap_model.execution import Execution
from mmap_model.methods import Problem, get_method
from mmap_model.methods.prompted import PromptedModel
from mmap_model.training import FusedRun, RunInterrupted
from mmap_model.training.embedding_memo import EmbeddingMemo, KeptEmbeddings, Shelf
from mmap_model.training.replicate import Stopwatch

# Three steps an epoch, of which the smaller task fills two and starts over.
RECIPE = Recipe(epochs=2, batch_size=2, lr=0.1, warmup_epochs=0)
PLAIN = ("clap", "clip_adapter", "coop", "task_res", "tip_adapter", "tip_adapter_f", "zero_shot", "zs_lp")
OTHERS = ("bitfit", "clip_lora", "full_ft", "ivlp", "maple", "two_stage", "vpt")


@pytest.fixture(scope="module")
def dataset(pattern_dataset: Callable[..., Dataset]) -> Dataset:
    few = {"fan": 6, "tv": 6}
    return pattern_dataset({"art": ("warm", {"mug": 6, **few}), "map": ("cold", few)})


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the plain tower embedded, call by call."""
    counts: list[int] = []
    embed = PromptedModel.image_embeddings

    def counted(model: PromptedModel, pixels: torch.Tensor) -> torch.Tensor:
        counts.append(pixels[..., 0, 0, 0].numel())
        return embed(model, pixels)

    monkeypatch.setattr(PromptedModel, "image_embeddings", counted)
    return counts


def cells(method: str, seeds: tuple[int, ...] = (1, 2), shots: int = 2, **recipe: Any) -> list[Cell]:
    precision = recipe.pop("precision", "fp32")
    configuration = Configuration(
        method=method, settings=get_method(method).Settings(), recipe=replace(RECIPE, **recipe)
    )
    return [
        Cell(
            configuration=configuration,
            split=Split(shots=shots),
            seeds=Seeds.both(seed),
            precision=precision,
            dataset="0" * 32,
            backbone="b",
        )
        for seed in seeds
    ]


def numbers(run: FusedRun) -> list[Any]:
    """Everything that a run measured and trained, without its seconds."""
    reports = [
        {
            key: {name: value for name, value in cell.items() if name != "seconds"}
            for key, cell in r.cells.items()
        }
        for r in run.epochs()
    ]
    found = run.finish()
    return [reports, {key: dict(result.files) for key, result in found.items()}]


@pytest.mark.parametrize("method", PLAIN)
def test_what_others_left_changes_no_bit_and_is_not_embedded_again(
    tiny_backbone: Backbone, dataset: Dataset, method: str, embedded: list[int]
) -> None:
    alone = numbers(FusedRun(cells(method), tiny_backbone, dataset))
    memo = EmbeddingMemo()
    numbers(FusedRun(cells("tip_adapter_f", lr=0.03), tiny_backbone, dataset, memo=memo))
    numbers(FusedRun(cells("clap", lr=0.03), tiny_backbone, dataset, memo=memo))
    assert sum(embedded) > 0
    embedded.clear()
    assert numbers(FusedRun(cells(method), tiny_backbone, dataset, memo=memo)) == alone
    assert embedded == []


@pytest.mark.parametrize("views", [None, 3])
def test_the_first_one_to_use_a_memo_has_the_numbers_of_one_without(
    tiny_backbone: Backbone, dataset: Dataset, views: int | None
) -> None:
    wanted = cells("zs_lp", views=views)
    alone = numbers(FusedRun(wanted, tiny_backbone, dataset))
    assert numbers(FusedRun(wanted, tiny_backbone, dataset, memo=EmbeddingMemo())) == alone


@pytest.mark.parametrize(
    "other",
    [
        {"seeds": (2, 1)},
        {"seeds": (1,)},
        {"seeds": (1, 3)},
        {"shots": 1},
        {"batch_size": 4},
        {"augment": False},
        {"views": 2},
        {"epochs": 3},
    ],
    ids=str,
)
def test_other_images_and_other_views_are_embedded(
    tiny_backbone: Backbone, dataset: Dataset, embedded: list[int], other: dict[str, Any]
) -> None:
    alone = numbers(FusedRun(cells("zs_lp", **other), tiny_backbone, dataset))
    memo = EmbeddingMemo()
    numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset, memo=memo))
    embedded.clear()
    assert numbers(FusedRun(cells("zs_lp", **other), tiny_backbone, dataset, memo=memo)) == alone
    assert sum(embedded) > 0


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_models_share_what_is_of_the_plain_tower_alone(tiny_backbone: Backbone, name: str) -> None:
    method = get_method(name)
    problem = Problem(
        classes=[("mug", "fan")] * 2,
        template="a photo of a {}.",
        partitions=[None],
        train_seeds=[1],
        images=(2, 2),
    )
    model = method.build(method.Settings(), tiny_backbone, problem)
    assert model.plain_images == (name in PLAIN)
    if model.plain_images:
        pixels = torch.rand(1, 2, 3, 3, tiny_backbone.image_size, tiny_backbone.image_size)
        zero_shot = get_method("zero_shot")
        plain = zero_shot.build(zero_shot.Settings(), tiny_backbone, problem)
        assert torch.equal(model.image_embeddings(pixels), plain.image_embeddings(pixels))


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_in_other_precisions_too(
    tiny_backbone: Backbone, tiny_backbone_fp64: Backbone, dataset: Dataset, precision: str
) -> None:
    backbone = tiny_backbone_fp64 if precision == "fp64" else tiny_backbone
    wanted = cells("clip_adapter", precision=precision)
    alone = numbers(FusedRun(wanted, backbone, dataset))
    memo = EmbeddingMemo()
    first = numbers(FusedRun(cells("task_res", lr=0.03, precision=precision), backbone, dataset, memo=memo))
    assert first != alone
    assert numbers(FusedRun(wanted, backbone, dataset, memo=memo)) == alone


def test_a_cell_that_is_cancelled_leaves_the_others_as_they_are(
    tiny_backbone: Backbone, dataset: Dataset
) -> None:
    wanted, memo = cells("zs_lp"), EmbeddingMemo()
    alone = numbers(FusedRun(wanted, tiny_backbone, dataset))
    cancelled = FusedRun(wanted, tiny_backbone, dataset, memo=memo)
    next(cancelled.epochs())
    cancelled.cancel(wanted[1].key)
    list(cancelled.epochs())
    assert list(cancelled.finish()) == [wanted[0].key]
    assert numbers(FusedRun(wanted, tiny_backbone, dataset, memo=memo)) == alone


@pytest.mark.parametrize("first", ["coop", "zs_lp"])
def test_each_model_computes_as_many_images_at_a_time_as_it_does_alone(
    tiny_backbone: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    def planned(model: Any, pixels: torch.Tensor) -> int:
        return 1 if type(model).__name__ == "CoopModel" else int(pixels.shape[2])

    monkeypatch.setattr("mmap_model.training.step.images_at_a_time", planned)
    second = "zs_lp" if first == "coop" else "coop"
    alone = FusedRun(cells(second), tiny_backbone, dataset)
    wanted, memo = numbers(alone), EmbeddingMemo()
    numbers(FusedRun(cells(first), tiny_backbone, dataset, memo=memo))
    after = FusedRun(cells(second), tiny_backbone, dataset, memo=memo)
    assert numbers(after) == wanted
    assert after._step is not None and alone._step is not None
    assert after._step.images == alone._step.images == (1 if second == "coop" else 2)


def test_memory_that_runs_out_takes_back_what_is_kept(
    tiny_backbone: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, embed = EmbeddingMemo(), PromptedModel.image_embeddings
    memo.put("others", 1, of(25))

    def full(model: PromptedModel, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.shape[2] > 1 and memo.get("others", 1) is not None:
            raise torch.OutOfMemoryError("too many")
        return embed(model, pixels)

    monkeypatch.setattr(PromptedModel, "image_embeddings", full)
    numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset, memo=memo))
    assert memo.get("others", 1) is None


def test_an_epoch_beyond_the_limit_is_not_even_collected(
    tiny_backbone: Backbone, dataset: Dataset, embedded: list[int]
) -> None:
    memo = EmbeddingMemo(limit=100)
    alone = numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset))
    embedded.clear()
    assert numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset, memo=memo)) == alone
    first = sum(embedded)
    assert numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset, memo=memo)) == alone
    assert sum(embedded) == 2 * first


def test_a_model_that_works_in_place_spoils_nothing_of_others(
    tiny_backbone: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmap_model.methods.clip_adapter.module import ClipAdapterModel

    alone = numbers(FusedRun(cells("task_res"), tiny_backbone, dataset))
    memo = EmbeddingMemo()
    finish = ClipAdapterModel.finish_images
    monkeypatch.setattr(ClipAdapterModel, "finish_images", lambda m, found: finish(m, found.mul_(0.5)))
    for _ in range(2):
        numbers(FusedRun(cells("clip_adapter"), tiny_backbone, dataset, memo=memo))
    assert numbers(FusedRun(cells("task_res"), tiny_backbone, dataset, memo=memo)) == alone


def test_a_model_on_another_backbone_shares_nothing(
    tiny_backbone: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmap_model.methods.zero_shot.module import ZeroShotModel

    run = FusedRun(cells("zero_shot"), tiny_backbone, dataset, memo=EmbeddingMemo())
    assert run._shelf is not None
    start = ZeroShotModel.__init__
    other = copy.copy(tiny_backbone)
    monkeypatch.setattr(ZeroShotModel, "__init__", lambda model, _, problem: start(model, other, problem))
    assert FusedRun(cells("zero_shot"), tiny_backbone, dataset, memo=EmbeddingMemo())._shelf is None


def test_a_model_with_image_prompts_or_logits_of_its_own_shares_nothing(tiny_backbone: Backbone) -> None:
    from mmap_model.methods.zero_shot.module import ZeroShotModel

    class Marked(ZeroShotModel):
        def image_prompts(self) -> list[torch.Tensor]:
            return [torch.zeros(2, 1, self.backbone.architecture.image.width)]

    class Shifted(ZeroShotModel):
        def logits(self, pixels: torch.Tensor, class_features: torch.Tensor | None = None) -> torch.Tensor:
            return super().logits(pixels, class_features) + 1

    class LooksAtPixels(ZeroShotModel):
        def image_losses(self, images: torch.Tensor, pixels: torch.Tensor, *rest: Any) -> torch.Tensor:
            return super().image_losses(images, pixels, *rest) + pixels.mean((3, 4, 5))

    problem = Problem(
        classes=[("mug", "fan")] * 2, template="a photo of a {}.", partitions=[None], train_seeds=[1]
    )
    assert ZeroShotModel(tiny_backbone, problem).plain_images
    assert not Marked(tiny_backbone, problem).plain_images
    assert not Shifted(tiny_backbone, problem).plain_images
    assert not LooksAtPixels(tiny_backbone, problem).plain_images


def test_a_limit_on_memory_leaves_no_room_for_a_memo(
    tiny_backbone: Backbone, dataset: Dataset, embedded: list[int]
) -> None:
    memo = EmbeddingMemo()
    options: dict[str, Any] = {"memo": memo, "execution": Execution(max_memory_gb=64.0)}
    numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset, **options))
    first = sum(embedded)
    numbers(FusedRun(cells("zs_lp"), tiny_backbone, dataset, **options))
    assert sum(embedded) == 2 * first > 0


def test_an_interrupted_epoch_leaves_nothing_and_a_resumed_one_is_whole(
    tiny_backbone: Backbone, dataset: Dataset
) -> None:
    wanted = cells("zs_lp", epochs=3)
    alone = numbers(FusedRun(wanted, tiny_backbone, dataset))
    memo, first = EmbeddingMemo(), FusedRun(wanted, tiny_backbone, dataset, memo=None)
    next(first.epochs())
    state = first.state()
    interrupted = FusedRun(wanted, tiny_backbone, dataset, memo=memo)
    interrupted.restore(state)
    with pytest.raises(RunInterrupted):
        list(interrupted.epochs(lambda: True))
    resumed = FusedRun(wanted, tiny_backbone, dataset, memo=memo)
    resumed.restore(state)
    reports, files = numbers(resumed)
    assert reports == alone[0][1:] and files == alone[1]
    assert numbers(FusedRun(wanted, tiny_backbone, dataset, memo=memo)) == alone


def test_cells_of_one_worker_share_a_memo(
    tiny_backbone: Backbone, dataset: Dataset, embedded: list[int]
) -> None:
    from orchestrator.execution.engine import ModelEngine

    engine = ModelEngine({"name": "symbols"}, {"model": "symbols"})
    vars(engine).update(_backbone=tiny_backbone, _dataset=dataset)
    found = []
    for rate in (0.1, 0.03):
        embedded.clear()
        run = engine.start(cells("task_res", lr=rate))
        list(run.epochs(lambda: False))
        found.append(sum(embedded))
    assert found[0] > 0 and found[1] == 0


def test_seconds_are_what_a_cell_takes_by_itself(
    tiny_backbone: Backbone, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ticking(monkeypatch)
    embed = PromptedModel.image_embeddings

    def slow(model: PromptedModel, pixels: torch.Tensor) -> torch.Tensor:
        clock.now += 10.0
        return embed(model, pixels)

    monkeypatch.setattr(PromptedModel, "image_embeddings", slow)
    memo, spent = EmbeddingMemo(), []
    for rate in (0.1, 0.03):
        run = FusedRun(cells("clap", lr=rate), tiny_backbone, dataset, memo=memo)
        list(run.epochs())
        spent.append([result.seconds for result in run.finish().values()])
    assert spent[0] == spent[1]
    assert all(seconds["train"] > 10 and seconds["evaluate"] >= 5 for seconds in spent[1])


def test_what_was_asked_for_longest_ago_makes_way() -> None:
    memo = EmbeddingMemo(limit=300)
    for batch in "abc":
        memo.put(batch, 1, of(25))
    assert memo.get("a", 1) is not None
    memo.put("d", 1, of(25))
    assert [memo.get(batch, 1) is not None for batch in "abcd"] == [True, False, True, True]


def test_all_parts_of_a_batch_go_at_once() -> None:
    memo = EmbeddingMemo(limit=300)
    memo.put("a", 1, of(25))
    memo.put("a", 2, of(25))
    memo.put("b", 1, of(50))
    assert memo.get("a", 1) is None and memo.get("a", 2) is None
    assert memo.get("b", 1) is not None


def test_a_batch_does_not_drive_out_its_own_nor_in_vain_that_of_others() -> None:
    memo = EmbeddingMemo(limit=300)
    memo.put("other", 1, of(25))
    memo.put("own", 1, of(25))
    memo.put("own", 2, of(60))
    assert memo.get("own", 1) is not None and memo.get("own", 2) is None
    assert memo.get("other", 1) is not None


def test_what_is_found_is_charged_and_what_is_not_is_not() -> None:
    memo, watch = EmbeddingMemo(), Stopwatch()
    shelf = Shelf(memo, "batch", watch)
    assert shelf.find(1) is None and not any(watch.take().values())
    shelf.keep(1, KeptEmbeddings(of(1).tensors, {"data": 1.5, "train": 2.0}))
    assert shelf.find(1) is not None
    assert watch.take() == {"data": 1.5, "train": 2.0, "evaluate": 0.0}


def of(numbers: int) -> KeptEmbeddings:
    return KeptEmbeddings([torch.zeros(numbers)], {})


class Clock:
    now = 0.0


def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still unless it is moved."""
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock
