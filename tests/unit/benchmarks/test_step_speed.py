"""What the speed benchmark compares with and counts: the same step, and no multiplication too many."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmap_model.backbone import Backbone
from mmap_model.methods import Problem, get_method

FOLDER = Path(__file__).parents[3] / "benchmarks" / "step_speed"
TEMPLATE = "a photo of a {}."
NAMES = ["dog", "cat", "cow", "car", "cup", "key", "sun", "tree"]
"""One token each: their last words fill one row of 24 tokens without a gap."""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"step_speed_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build(method: str, backbone: Backbone, classes: list[list[str]], replicates: int = 1) -> Any:
    settings = {
        "mmap": {"prompt_length": 4, "source_rows": 2, "source_cols": 8},
        "maple": {"prompt_length": 3},
    }
    given = get_method(method)
    return given.build(
        given.Settings(**settings[method]),
        backbone,
        Problem(
            classes=classes,
            template=TEMPLATE,
            partitions=[tuple((t,) for t in range(len(classes))) if given.grouped else None] * replicates,
            train_seeds=list(range(replicates)),
        ),
    )


@pytest.mark.parametrize("text_chunk", [None, 3])
@pytest.mark.parametrize("method", ["mmap", "maple"])
def test_the_reference_takes_the_same_step(
    method: str, text_chunk: int | None, tiny_backbone_fp64: Backbone
) -> None:
    classes = [["dog", "alarm_clock", "sea turtle", "cat"]] * 2
    model = build(method, tiny_backbone_fp64, classes, replicates=2)
    pixels = torch.randn(2, 2, 3, 3, 16, 16, dtype=torch.float64)
    labels = torch.randint(4, (2, 2, 3))
    losses = -model.logits(pixels).log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1).mean(-1)
    template = TEMPLATE if method == "mmap" else "{}."
    plain = load("reference").Reference(
        model, classes, template, assembled=method == "maple", text_chunk=text_chunk
    )
    # The reference casts features to single precision, as trainings in mixed precision do.
    torch.testing.assert_close(plain.losses(pixels, labels).double(), losses, rtol=1e-5, atol=1e-6)
    ours = torch.autograd.grad(losses.sum(), list(model.parameters()))
    theirs = torch.autograd.grad(plain.losses(pixels, labels).sum(), list(model.parameters()))
    for actual, expected in zip(ours, theirs, strict=True):
        assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("method", ["clip_lora", "promptsrc"])
def test_the_reference_of_a_newer_method_takes_the_same_step(
    method: str, tasks: int, tiny_backbone_fp64: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout, whose masks both draw in their own way."""
    monkeypatch.syspath_prepend(str(FOLDER))
    cases = load("cases")
    if method == "clip_lora":
        monkeypatch.setitem(cases.TINY, method, {"regime": "multi", "dropout": 0.0})
    case = cases.Case(method=method, classes=5, batch=3, tasks=tasks, tiny=True)
    model = case.build(tiny_backbone_fp64)
    with torch.no_grad():
        for parameter in model.parameters():  # away from the zeros at which LoRA starts
            parameter += 0.05 * torch.randn_like(parameter)
    found = []
    for reference in (False, True):
        step = cases.newer_step(case, model, tiny_backbone_fp64, reference=reference)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        loss = step()
        found.append((loss, {name: p.grad.clone() for name, p in model.named_parameters()}))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(before[name])
    (ours, gradients), (theirs, plain) = found
    assert ours == pytest.approx(theirs, rel=1e-5)
    for name, expected in plain.items():
        assert expected.abs().max() > 0
        assert (gradients[name] - expected).abs().max() < 1e-4 * expected.abs().max(), name


@pytest.mark.parametrize("sets", [1, 2])
def test_the_count_is_what_the_step_multiplies(sets: int, tiny_backbone_fp64: Backbone) -> None:
    count = load("count")
    model = build("mmap", tiny_backbone_fp64, [NAMES] * sets)
    shape, prompts, images = tiny_backbone_fp64.architecture, 8, 3
    common, length, keys = model.class_prompts.common, 1 + shape.patches, 1 + shape.patches + prompts
    assert (common, model.class_prompts.row_mask.shape[2]) == (4, 24)
    text = count.text_passes(shape, common=common, rest=[3] * 8, prompts=prompts, sets=sets)
    image = count.image_passes(shape, images=images, prompts=prompts, sets=sets)
    pixels = torch.randn(1, sets, images, 3, 16, 16, dtype=torch.float64)
    d = shape.image.width

    for passes, encode in ((text, model.class_features), (image, lambda: model.image_features(pixels))):
        with sdpa_kernel(SDPBackend.MATH):
            linear, attention, features = multiply_adds(encode)
            linear_backward, attention_backward, _ = multiply_adds(features.sum().backward)
        assert (linear, linear_backward) == (passes.linear, passes.linear_backward)
        if passes is image:
            # Of the first layer torch also multiplies the columns of keys that are constants.
            constants = 3 * sets * images * length * length * d
            assert attention == passes.attention == sets * images * 2 * d * keys * (2 * length + 1)
            assert attention_backward == passes.attention_backward + constants
        else:
            # Rows are attended to whole, classes that share one are kept apart by the mask.
            assert passes.attention < attention
            assert passes.attention_backward < attention_backward


def multiply_adds(function: Any) -> tuple[int, int, Any]:
    """Of linear layers and of attention (batched products), and the result."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    by_name = {str(op): flops // 2 for op, flops in counter.get_flop_counts()["Global"].items()}
    attention = by_name.pop("aten.bmm", 0) + by_name.pop("aten.baddbmm", 0)
    return sum(by_name.values()), attention, result
