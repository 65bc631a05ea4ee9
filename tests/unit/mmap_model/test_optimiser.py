"""Stacked SGD equals separate SGD; the schedule is the lineage's."""

import math

import pytest
import torch
from torch import nn

from mmap_model.configuration import ParameterGroup, Recipe, Split
from mmap_model.errors import ConfigurationError
from mmap_model.training.averaging import epoch_weights
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.schedule import Stage, learning_rate, stage_of


def test_default_schedule():
    rates = [learning_rate(Recipe(), e) for e in range(1, 6)]
    assert rates == pytest.approx([1e-5, 0.0035, 0.003166, 0.002291, 0.001209], abs=5e-7)


def test_constant_schedule_and_no_warm_up():
    recipe = Recipe(epochs=3, schedule="constant", warmup_epochs=0, lr=0.1)
    assert [learning_rate(recipe, e) for e in (1, 2, 3)] == [0.1, 0.1, 0.1]
    assert learning_rate(Recipe(epochs=3, warmup_epochs=0, lr=0.1), 1) == 0.1


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_stacked_steps_equal_separate_ones(clip, reduction):
    recipe = Recipe(lr=0.1, clip_norm=clip, loss_reduction=reduction)
    start = {"a": torch.randn(3, 2, 4, dtype=torch.float64), "b": torch.randn(3, 5, dtype=torch.float64)}
    targets = torch.randn(6, 3, 2, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1])[:, None]

    def loss(a, b, target):
        return ((a.sum() - target) ** 2 + (b**3).sum() * target).sum()

    stacked = {name: nn.Parameter(p.clone()) for name, p in start.items()}
    sgd = ReplicateOptimiser(stacked, recipe, tasks=2)
    for epoch, target in enumerate(targets, 1):
        sgd.start_epoch(min(epoch, 5))
        losses = [[loss(stacked["a"][r], stacked["b"][r], t) for t in target[r]] for r in range(3)]
        sgd.step(torch.stack([torch.stack(row) for row in losses]))
    for r in range(3):
        own = {name: nn.Parameter(p[r].clone()) for name, p in start.items()}
        plain = torch.optim.SGD(own.values(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        for epoch, target in enumerate(targets, 1):
            plain.param_groups[0]["lr"] = learning_rate(recipe, min(epoch, 5))
            plain.zero_grad()
            total = sum(loss(own["a"], own["b"], t) for t in target[r])
            (total / (2 if reduction == "mean" else 1)).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(own.values(), clip)
            plain.step()
        for name, parameter in own.items():
            assert torch.allclose(stacked[name][r], parameter, rtol=1e-10)


def test_silenced_replicates_stay_at_zero():
    parameter = nn.Parameter(torch.randn(2, 3))
    sgd = ReplicateOptimiser({"p": parameter}, Recipe(), tasks=1)
    sgd.step(parameter.sum(1, keepdim=True))
    with torch.no_grad():
        parameter[1] = torch.nan
    assert sgd.finite().tolist() == [True, False]
    sgd.silence(torch.tensor([False, True]))
    sgd.step(torch.where(torch.tensor([[True], [False]]), parameter.sum(1, keepdim=True), 0.0))
    assert parameter[1].tolist() == [0, 0, 0] and parameter[0].abs().min() > 0


def quadratic(parameters, r, target):
    """A loss of one replicate that both tensors have a part in."""
    return ((parameters["a"][r].sum() - target) ** 2 + (parameters["b"][r] ** 3).sum() * target).sum()


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_stacked_steps_of_every_optimiser_equal_those_of_torch_alone(kind):
    recipe = Recipe(
        optimiser=kind,
        lr=0.1,
        eps=1e-3,
        weight_decay=0.1,
        warmup_epochs=0,
        epochs=3,
        lr_moves="step",
        final_lr=0.01,
        groups=(ParameterGroup(match="b*", lr_factor=0.5, weight_decay=0.0),),
    )
    generator = torch.Generator().manual_seed(0)
    start = {n: torch.randn(3, 4, generator=generator, dtype=torch.float64) for n in ("a", "b")}
    stacked = {name: nn.Parameter(p.clone()) for name, p in start.items()}
    ours = ReplicateOptimiser(stacked, recipe, tasks=1)
    targets, step = torch.tensor([1.0, 5.0, 0.1], dtype=torch.float64), 0
    theirs = []
    for r in range(3):
        own = {name: nn.Parameter(p[r : r + 1].clone()) for name, p in start.items()}
        groups = [{"params": [own["a"]], "weight_decay": 0.1}, {"params": [own["b"]], "weight_decay": 0.0}]
        made = {
            "sgd": lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9),
            "adam": lambda g: torch.optim.Adam(g, lr=0.1, eps=1e-3),
            "adamw": lambda g: torch.optim.AdamW(g, lr=0.1, eps=1e-3),
        }[kind](groups)
        theirs.append((own, made))
    for epoch in (1, 2, 3):
        ours.start_epoch(epoch, steps=2)
        for _ in range(2):
            ours.step(torch.stack([quadratic(stacked, r, targets[r]) for r in range(3)])[:, None])
            rate = 0.01 + 0.09 * (1 + math.cos(math.pi * step / 6)) / 2
            step += 1
            for r, (own, made) in enumerate(theirs):
                made.param_groups[0]["lr"], made.param_groups[1]["lr"] = rate, rate * 0.5
                made.zero_grad()
                quadratic(own, 0, targets[r]).backward()
                made.step()
    for r, (own, _) in enumerate(theirs):
        for name, parameter in own.items():
            torch.testing.assert_close(stacked[name][r], parameter[0], rtol=1e-12, atol=0)


def test_a_group_that_matches_nothing_is_named_with_what_there_is():
    recipe = Recipe(groups=(ParameterGroup(match="visual*"),))
    with pytest.raises(ConfigurationError, match=r"(?s)'visual\*' matches nothing.*trained are p"):
        ReplicateOptimiser({"p": nn.Parameter(torch.ones(1, 2))}, recipe, tasks=1)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("average", [{}, {"average": "gaussian", "average_mean": 2.0, "average_std": 1.0}])
def test_an_optimiser_goes_on_from_its_state_bit_for_bit(kind, average):
    recipe = Recipe(optimiser=kind, lr=0.1, epochs=4, warmup_epochs=0, lr_moves="step", **average)

    def made():
        parameters = {"a": nn.Parameter(torch.ones(2, 3))}
        return parameters, ReplicateOptimiser(parameters, recipe, tasks=1)

    def trained(parameters, optimiser, epochs):
        for epoch in epochs:
            optimiser.start_epoch(epoch, steps=2)
            for _ in range(2):
                optimiser.step((parameters["a"] ** 2).sum(1, keepdim=True) * torch.tensor([[1.0], [3.0]]))
            optimiser.end_epoch()

    whole, first, second = made(), made(), made()
    trained(*whole, (1, 2, 3, 4))
    trained(*first, (1, 2))
    second[1].restore({name: tensor.clone() for name, tensor in first[1].state().items()})
    trained(*second, (3, 4))
    assert torch.equal(whole[0]["a"], second[0]["a"])


def test_the_average_is_the_weighted_mean_of_the_ends_of_epochs():
    recipe = Recipe(
        epochs=3, warmup_epochs=0, schedule="constant", lr=0.1, momentum=0.0, weight_decay=0.0,
        average="gaussian", average_mean=2.0, average_std=0.5,
    )  # fmt: skip
    parameter = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    optimiser, ends = ReplicateOptimiser({"p": parameter}, recipe, tasks=1), []
    for epoch in (1, 2, 3):
        optimiser.start_epoch(epoch)
        optimiser.step(parameter * -epoch)
        ends.append(parameter.item())
        optimiser.end_epoch()
    raw = [math.exp(-((epoch - 2.0) ** 2) / (2 * 0.25)) for epoch in (1, 2, 3)]
    wanted = sum(w * end for w, end in zip(raw, ends, strict=True)) / sum(raw)
    assert ends == pytest.approx([0.1, 0.3, 0.6])
    assert parameter.item() == pytest.approx(wanted, rel=1e-12)
    assert epoch_weights(Recipe(epochs=4, average="mean")) == [0.25] * 4


def test_stages_have_their_own_schedules_and_an_optimiser_that_remembers_nothing():
    recipe = Recipe(epochs=5, lr=0.1, warmup_epochs=0, schedule="cosine")
    stages = [stage_of((0.6,), recipe, epoch) for epoch in range(1, 6)]
    assert stages == [Stage(0, 1, 3)] * 3 + [Stage(1, 4, 2)] * 2
    parameter, entered = nn.Parameter(torch.ones(1, 2)), []
    optimiser = ReplicateOptimiser({"p": parameter}, recipe, tasks=1, stages=(0.6,), enter=entered.append)
    rates = []
    for epoch in range(1, 6):
        rates.append(optimiser.start_epoch(epoch))
        assert entered == [1] * (epoch > 3)
        assert ("momentum.p" in optimiser.state()) == (epoch not in (1, 4))
        optimiser.step(parameter.sum(1, keepdim=True))
    assert rates == pytest.approx([0.1, 0.075, 0.025, 0.1, 0.05])


def test_recipes_that_cannot_be_are_refused_by_key():
    for options, key in (
        ({"steps": 7}, "recipe.steps"),
        ({"steps": 10, "steps_per_shot": 5}, "recipe.steps_per_shot"),
        ({"average": "gaussian", "average_mean": 3.0}, "recipe.average_std"),
        ({"average_mean": 3.0}, "recipe.average_mean"),
        ({"final_lr": 1.0}, "recipe.final_lr"),
        ({"eps": 0.0}, "recipe.eps"),
        ({"views": 0}, "recipe.views"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            Recipe(**options)
        assert raised.value.where == key
    assert Recipe(steps_per_shot=500).for_split(Split(shots=6)).steps == 3000
    with pytest.raises(ConfigurationError, match="500 steps for every shot"):
        Recipe(steps_per_shot=500).for_split(Split(percent=10.0))
