"""A fused batch trains every cell as if alone, resumes bit for bit, and keeps failures to themselves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load

from mmap_model.backbone import random_backbone
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.errors import DatasetError
from mmap_model.execution import Execution
from mmap_model.methods.mmap import MmapSettings
from mmap_model.methods.mmap.module import MmapModel
from mmap_model.methods.zero_shot import ZeroShotSettings
from mmap_model.training import FusedRun, RunInterrupted, score_test
from mmap_model.training.predictions import read_predictions
from mmap_model.training.replicate import draw_tasks
from mmap_model.training.state import pack, unpack

RECIPE = Recipe(epochs=3, batch_size=4, lr=0.02, clip_norm=1.0)
SETTINGS = MmapSettings(prompt_length=2, source_rows=1, source_cols=8)
PAIRS, TRIPLE, SINGLES = ((0, 1), (2,)), ((0, 1, 2),), ((0,), (1,), (2,))


@pytest.fixture(scope="module")
def dataset(pattern_dataset):
    classes = {"mug": 10, "fan": 10, "desk lamp": 10}
    return pattern_dataset(
        {
            "art": ("warm", classes),
            "photo": ("cold", classes),
            "sketch": ("cold", {"fan": 10, "sea turtle": 10}),
        }
    )


def cell(seed=1, partition=PAIRS, recipe=RECIPE, **options):
    options = {"split": Split(shots=3), "dataset": "0" * 32, "backbone": "b"} | options
    configuration = Configuration(method="mmap", settings=SETTINGS, recipe=recipe, partition=partition)
    return Cell(configuration=configuration, seeds=Seeds.both(seed), **options)


def trained(cells, backbone, dataset, **options):
    run = FusedRun(cells, backbone, dataset, **options)
    reports = list(run.epochs())
    return run, reports


def without_seconds(cells):
    return {key: {k: v for k, v in c.items() if k != "seconds"} for key, c in cells.items()}


def test_fused_replicates_equal_separate_runs(tiny_backbone_fp64, dataset):
    cells = [
        cell(seed, partition, precision="fp64") for seed, partition in [(1, PAIRS), (2, TRIPLE), (3, SINGLES)]
    ]
    fused_run, fused = trained(cells, tiny_backbone_fp64, dataset)
    results = fused_run.finish()
    for one in cells:
        run, alone = trained([one], tiny_backbone_fp64, dataset)
        for ours, theirs in zip(alone, fused, strict=True):
            for task, row in ours.cells[one.key]["tasks"].items():
                assert row == pytest.approx(theirs.cells[one.key]["tasks"][task], abs=1e-9)
        result = run.finish()[one.key]
        separate = load(result.files["prompts.safetensors"])
        together = load(results[one.key].files["prompts.safetensors"])
        assert separate.keys() == together.keys()
        for name, tensor in separate.items():
            assert torch.allclose(tensor, together[name], rtol=0, atol=1e-9)
        assert result.parameters == results[one.key].parameters
    assert len({r.parameters for r in results.values()}) == 3


@pytest.mark.parametrize("count", [1, 2])
def test_resumed_equals_uninterrupted_bit_for_bit(tiny_backbone, dataset, count):
    cells = [cell(seed) for seed in range(1, count + 1)]
    whole, reports = trained(cells, tiny_backbone, dataset)
    first = FusedRun(cells, tiny_backbone, dataset)
    next(first.epochs())
    resumed = FusedRun(cells, tiny_backbone, dataset)
    resumed.restore(first.state())
    assert resumed.epoch == 1
    rest = list(resumed.epochs())
    for ours, theirs in zip(rest, reports[1:], strict=True):
        assert ours.epoch == theirs.epoch
        assert without_seconds(ours.cells) == without_seconds(theirs.cells)
    ours, theirs = resumed.finish(), whole.finish()
    for key in theirs:
        assert ours[key].files == theirs[key].files
        assert [h["epoch"] for h in ours[key].metrics["history"]] == [1, 2, 3]


def test_a_finished_run_can_be_restored_and_finished_again(tiny_backbone, dataset):
    run, _ = trained([cell()], tiny_backbone, dataset)
    again = FusedRun([cell()], tiny_backbone, dataset)
    again.restore(run.state())
    assert list(again.epochs()) == []
    assert again.finish()[cell().key].files == run.finish()[cell().key].files
    assert again.state() != b"" and again.epoch == 3


def poison(run, replicate, value=float("nan")):
    with torch.no_grad():
        next(iter(run._model.parameters()))[replicate] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_diverged_replicate_leaves_the_others_untouched(tiny_backbone, dataset, value):
    cells = [cell(1), cell(2), cell(3)]
    sound, reports = trained(cells, tiny_backbone, dataset)
    run = FusedRun(cells, tiny_backbone, dataset)
    poison(run, 1, value)
    ended = list(run.epochs())
    assert list(run.failed) == [cells[1].key]
    assert "diverged in epoch 1" in run.failed[cells[1].key]
    assert run.active == (cells[0].key, cells[2].key)
    assert all(cells[1].key not in report.cells for report in ended)
    ours, theirs = run.finish(), sound.finish()
    assert set(ours) == set(run.active)
    for key in run.active:
        assert ours[key].files["prompts.safetensors"] == theirs[key].files["prompts.safetensors"]
        assert without_seconds(ended[-1].cells)[key] == without_seconds(reports[-1].cells)[key]
    restored = FusedRun(cells, tiny_backbone, dataset)
    restored.restore(run.state())
    assert restored.failed == run.failed


def give_broken_logits(monkeypatch, value, replicate=1):
    """Outside of training, one logit of one image of a replicate is ``value``."""
    compare = MmapModel.compare

    def broken(model, images, classes):
        logits = compare(model, images, classes)
        if not model.training:
            logits[replicate, 0, -1, 0] = value
        return logits

    monkeypatch.setattr(MmapModel, "compare", broken)


@pytest.mark.parametrize(
    ("protocol", "evaluate"), [("search", "every"), ("search", "last"), ("paper", "every")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_in_evaluation_end_their_replicate_alone(
    tiny_backbone, dataset, monkeypatch, value, protocol, evaluate
):
    cells = [cell(1, protocol=protocol), cell(2, protocol=protocol), cell(3, protocol=protocol)]
    options = {"execution": Execution(evaluate=evaluate)}
    sound, reports = trained(cells, tiny_backbone, dataset, **options)
    give_broken_logits(monkeypatch, value)
    run, ended = trained(cells, tiny_backbone, dataset, **options)
    assert list(run.failed) == [cells[1].key]
    assert "diverged in epoch 1: " in run.failed[cells[1].key]
    assert "are not finite; lower recipe.lr" in run.failed[cells[1].key]
    assert run.active == (cells[0].key, cells[2].key)
    ours, theirs = run.finish(), sound.finish()
    assert set(ours) == set(run.active) and run.state()
    for key in run.active:
        assert ours[key].files["prompts.safetensors"] == theirs[key].files["prompts.safetensors"]
        assert without_seconds(ended[-1].cells)[key] == without_seconds(reports[-1].cells)[key]


@pytest.mark.parametrize("protocol", ["search", "paper", "clap"])
def test_a_last_step_into_the_infinite_is_seen(tiny_backbone, dataset, protocol):
    """Its loss, taken before it, is finite, and so are the parameters after it."""
    recipe = Recipe(epochs=1, batch_size=100, warmup_epochs=0, lr=1e28)
    one = cell(recipe=recipe, protocol=protocol)
    run, reports = trained([one], tiny_backbone, dataset)
    assert "are not finite" in run.failed[one.key] and "loss was" not in run.failed[one.key]
    assert [report.cells for report in reports] == [{}] and run.finish() == {}


@pytest.mark.parametrize("kind", ["train", "untrained"])
def test_broken_logits_before_any_training_are_not_blamed_on_the_learning_rate(dataset, kind):
    backbone = random_backbone()
    with torch.no_grad():
        backbone.clip.logit_scale.fill_(1e3)
    if kind == "train":
        configuration = Configuration(method="zero_shot", settings=ZeroShotSettings(), recipe=RECIPE)
        one = replace(cell(), configuration=configuration)
        run, _ = trained([one], backbone, dataset)
    else:
        one = cell(kind=kind)
        run = FusedRun([one], backbone, dataset)
        assert run.evaluate_initial().cells == {}
    assert "of 'art' are not finite before any training" in run.failed[one.key]
    assert "lr" not in run.failed[one.key] and run.finish() == {}


def test_a_probe_whose_gradients_are_not_finite_fails_alone(tiny_backbone, dataset, monkeypatch):
    recipe = replace(RECIPE, warmup_epochs=0)
    configuration = replace(
        cell(partition=TRIPLE, recipe=recipe).configuration, settings=replace(SETTINGS, modules="group")
    )
    cells = [
        replace(cell(seed), configuration=configuration, kind="probe", snapshot_every=2) for seed in (1, 2)
    ]
    sound, _ = trained(cells, tiny_backbone, dataset)
    gram = MmapModel.task_gram

    def overflowing(model, by_set):
        found = gram(model, by_set)
        found["prompts"][0, 1, 2] = float("inf")
        return found

    monkeypatch.setattr(MmapModel, "task_gram", overflowing)
    run, _ = trained(cells, tiny_backbone, dataset)
    assert "products of its tasks' gradients are not finite" in run.failed[cells[0].key]
    key = cells[1].key
    assert run.active == (key,)
    assert run.finish()[key].files == sound.finish()[key].files


def test_a_run_ends_when_every_replicate_has_failed(tiny_backbone, dataset):
    run = FusedRun([cell(1), cell(2)], tiny_backbone, dataset)
    poison(run, 0)
    poison(run, 1)
    reports = list(run.epochs())
    assert [report.cells for report in reports] == [{}]
    assert len(run.failed) == 2 and run.active == () and run.finish() == {}


def test_a_cancelled_cell_is_left_out_and_the_others_go_on(tiny_backbone, dataset):
    cells = [cell(1), cell(2)]
    whole, _ = trained(cells, tiny_backbone, dataset)
    run = FusedRun(cells, tiny_backbone, dataset)
    for report in run.epochs():
        if report.epoch == 1:
            run.cancel(cells[0].key)
        else:
            assert list(report.cells) == [cells[1].key]
    assert not run.failed
    key = cells[1].key
    assert run.finish()[key].files == whole.finish()[key].files


def test_should_stop_interrupts_within_an_epoch(tiny_backbone, dataset):
    run = FusedRun([cell()], tiny_backbone, dataset)
    answers = iter([False, True])
    epochs = run.epochs(should_stop=lambda: next(answers))
    with pytest.raises(RunInterrupted, match=r"in epoch 1, before step 2 of "):
        list(epochs)
    with pytest.raises(AssertionError, match="no whole state"):
        run.state()


def test_backbone_is_never_changed(tiny_backbone, dataset):
    before = {name: p.clone() for name, p in tiny_backbone.clip.named_parameters()}
    trained([cell()], tiny_backbone, dataset)
    for name, parameter in tiny_backbone.clip.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None


def test_training_lowers_the_loss(tiny_backbone, dataset):
    recipe = Recipe(epochs=8, batch_size=4, lr=0.2, augment=False)
    _, reports = trained([cell(recipe=recipe)], tiny_backbone, dataset)
    (losses,) = zip(*[[c["train_loss"] for c in r.cells.values()] for r in reports], strict=True)
    assert losses[-1] < 0.9 * losses[0]


def test_reports_are_json_and_means_of_their_tasks(tiny_backbone, dataset):
    run, reports = trained([cell()], tiny_backbone, dataset)
    for report in reports:
        (values,) = report.cells.values()
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        for name in ("accuracy", "nll", "ece", "macro_f1", "train_loss"):
            assert values[name] == pytest.approx(np.mean([t[name] for t in values["tasks"].values()]))
    assert [r.cells[cell().key]["lr"] for r in reports] == pytest.approx([1e-5, 0.02, 0.015])
    result = run.finish()[cell().key]
    json.dumps(result.metrics, allow_nan=False)
    assert result.metrics["accuracy"] == values["accuracy"]
    assert result.metrics["labels"]["sketch"] == {"train": 6, "validation": 6}
    assert set(result.metrics["tasks"]["art"]) >= {"per_class", "nll"}
    assert result.seconds["train"] > 0 and result.versions["fused"] == 1


@pytest.mark.parametrize(
    ("execution", "scored"),
    [
        (Execution(), [1, 2, 3]),
        (Execution(evaluate="rungs", rungs=(2,)), [2, 3]),
        (Execution(evaluate="rungs"), [3]),
        (Execution(evaluate="last"), [3]),
    ],
)
def test_epochs_that_are_not_scored_change_nothing_that_is_measured(
    tiny_backbone, dataset, execution, scored
):
    cells = [cell(1), cell(2)]
    usual, expected = trained(cells, tiny_backbone, dataset)
    run, reports = trained(cells, tiny_backbone, dataset, execution=execution)
    for report, known in zip(reports, expected, strict=True):
        for key, values in without_seconds(report.cells).items():
            if report.epoch in scored:
                assert values == without_seconds(known.cells)[key]
            else:
                assert values["accuracy"] is None and values["train_loss"] == known.cells[key]["train_loss"]
                assert set(values["tasks"]["art"]) == {"train_loss"}
    ours, theirs = run.finish(), usual.finish()
    for key in (one.key for one in cells):
        assert ours[key].files["prompts.safetensors"] == theirs[key].files["prompts.safetensors"]
        assert ours[key].metrics["accuracy"] == theirs[key].metrics["accuracy"]


def test_a_run_that_goes_on_after_an_epoch_without_scores_is_scored_at_its_end(tiny_backbone, dataset):
    one, execution = cell(), Execution(evaluate="last")
    whole, _ = trained([one], tiny_backbone, dataset, execution=execution)
    begun = FusedRun([one], tiny_backbone, dataset, execution=execution)
    next(begun.epochs())
    resumed = FusedRun([one], tiny_backbone, dataset, execution=execution)
    resumed.restore(begun.state())
    assert [report.epoch for report in resumed.epochs()] == [2, 3]
    assert resumed.finish()[one.key].files == whole.finish()[one.key].files


def test_paper_protocol_has_no_validation(tiny_backbone, dataset):
    one = cell(protocol="paper")
    run, reports = trained([one], tiny_backbone, dataset)
    values = reports[-1].cells[one.key]
    assert values["accuracy"] is None and values["train_loss"] > 0
    assert "predictions.parquet" not in run.finish()[one.key].files


def test_too_small_tasks_are_refused(tiny_backbone, pattern_dataset):
    tiny = pattern_dataset({"art": ("warm", {"mug": 2, "fan": 2})})
    with pytest.raises(DatasetError, match="'art' has too few images"):
        FusedRun([cell(partition=((0,),))], tiny_backbone, tiny)


def test_search_never_reads_test_images_and_scoring_reads_only_them(tiny_backbone, dataset):
    one = cell(split=Split(shots=1), largest_shots=3)
    for asked in dataset.asked.values():
        asked.clear()
    run, _ = trained([one], tiny_backbone, dataset)
    files = run.finish()[one.key].files
    draws = dict(zip(dataset.asked, draw_tasks(one, dataset), strict=True))
    for task, drawn in draws.items():
        assert dataset.asked[task] == {*drawn.train.tolist(), *drawn.validation.tolist()}
        dataset.asked[task].clear()
    scored = score_test([one], {one.key: files}, tiny_backbone, dataset)[one.key]
    for task, drawn in draws.items():
        assert dataset.asked[task] == set(drawn.test.tolist())
        samples, _ = read_predictions(scored["files"]["test_predictions.parquet"])[task]
        assert samples == [f"{task}/{n}" for n in drawn.test]
        assert scored["metrics"]["images"][task] == len(drawn.test)


def test_saved_prompts_score_as_the_model_did(tiny_backbone, dataset, monkeypatch):
    one = cell()
    run, reports = trained([one], tiny_backbone, dataset)
    swapped = [replace(d, test=d.validation) for d in draw_tasks(one, dataset)]
    monkeypatch.setattr("mmap_model.training.scoring.draw_tasks", lambda cell, dataset: swapped)
    scored = score_test([one], {one.key: run.finish()[one.key].files}, tiny_backbone, dataset)
    for name in ("accuracy", "nll", "ece", "macro_f1"):
        assert scored[one.key]["metrics"][name] == pytest.approx(reports[-1].cells[one.key][name], abs=1e-5)


def test_zero_shot_has_one_report_as_of_the_last_epoch(tiny_backbone, dataset):
    configuration = Configuration(method="zero_shot", settings=ZeroShotSettings(), recipe=RECIPE)
    cells = [replace(cell(seed), configuration=configuration) for seed in (1, 2)]
    run, reports = trained(cells, tiny_backbone, dataset)
    assert [r.epoch for r in reports] == [3] and run.epoch == 3
    results = run.finish()
    for one in cells:
        assert reports[0].cells[one.key]["lr"] == 0 and reports[0].cells[one.key]["train_loss"] is None
        assert results[one.key].parameters == 0
    again = FusedRun(cells, tiny_backbone, dataset)
    again.restore(run.state())
    assert {k: r.files for k, r in again.finish().items()} == {k: r.files for k, r in results.items()}
    assert score_test(cells, {k: r.files for k, r in results.items()}, tiny_backbone, dataset)


def test_initial_evaluation_is_the_untrained_model(tiny_backbone, dataset):
    run = FusedRun([cell(1), cell(2)], tiny_backbone, dataset)
    initial = run.evaluate_initial()
    assert initial.epoch == 0 and run.epoch == 0
    still = Recipe(epochs=1, batch_size=4, lr=1e-30, warmup_epochs=0, weight_decay=0.0)
    _, reports = trained([cell(1, recipe=still)], tiny_backbone, dataset)
    expected = reports[0].cells[cell(1, recipe=still).key]
    assert initial.cells[cell(1).key]["nll"] == pytest.approx(expected["nll"], abs=1e-6)
    assert len(list(run.epochs())) == 3


def test_an_untrained_cell_is_measured_and_kept(tiny_backbone, dataset):
    one = cell(kind="untrained")
    run = FusedRun([one], tiny_backbone, dataset)
    report = run.evaluate_initial()
    result = run.finish()[one.key]
    assert result.metrics["nll"] == report.cells[one.key]["nll"]
    assert report.cells[one.key]["train_loss"] is None
    assert set(result.files) == {"predictions.parquet", "prompts.safetensors", "prompts.json"}


def test_mixed_precision_stays_close_to_single(tiny_backbone, dataset):
    _, single = trained([cell()], tiny_backbone, dataset)
    _, mixed = trained([cell(precision="bf16")], tiny_backbone, dataset)
    a, b = (r[-1].cells[k]["nll"] for r, k in ((single, cell().key), (mixed, cell(precision="bf16").key)))
    assert a != b and a == pytest.approx(b, rel=0.05)


def test_state_is_deterministic_and_readable():
    document = {"epoch": 2, "history": [0.1, 1e-300], "name": "é"}
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}
    data = pack(document, tensors)
    assert data == pack(dict(reversed(document.items())), tensors)
    found, loaded = unpack(data)
    assert found == document and all(torch.equal(loaded[k], v) for k, v in tensors.items())


def test_others_can_see_how_far_a_run_is(tiny_backbone, dataset):
    run = FusedRun([cell(1), cell(2)], tiny_backbone, dataset)
    seen = []

    def look():
        at = run.position
        seen.append((at.stage, at.epoch, at.step, at.steps))
        return False

    assert run.position is None
    for _ in run.epochs(look):
        pass
    steps = run._batches.steps
    for epoch in (1, 2, 3):
        own = [at for at in seen if at[1] == epoch]
        assert own[0] == ("training", epoch, 0, steps)
        batches = [at for at in own if at[0] == "validation"]
        assert batches == [("validation", epoch, number + 1, len(batches)) for number in range(len(batches))]
