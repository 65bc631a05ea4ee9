"""Stacked SGD equals separate SGD; the schedule is the lineage's."""

import pytest
import torch
from torch import nn

from mmap_model.configuration import Recipe
from mmap_model.training.optimiser import ReplicateSgd
from mmap_model.training.schedule import learning_rate


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
    sgd = ReplicateSgd(stacked, recipe, tasks=2)
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
    sgd = ReplicateSgd({"p": parameter}, Recipe(), tasks=1)
    sgd.step(parameter.sum(1, keepdim=True))
    with torch.no_grad():
        parameter[1] = torch.nan
    assert sgd.finite().tolist() == [True, False]
    sgd.silence(torch.tensor([False, True]))
    sgd.step(torch.where(torch.tensor([[True], [False]]), parameter.sum(1, keepdim=True), 0.0))
    assert parameter[1].tolist() == [0, 0, 0] and parameter[0].abs().min() > 0
