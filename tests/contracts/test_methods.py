"""What every registered tuning method keeps. A new method adds its settings and the paper's counts of it.

With compiled towers (``inductor`` takes hours on two cores, ``aot_eager``, which makes no kernels, minutes):

    MMAP_TEST_COMPILE=aot_eager uv run pytest tests/contracts/test_methods.py
"""

from __future__ import annotations

import os
from functools import partial
from typing import get_args, get_type_hints

import pytest
import torch

from mmap_model.architecture import read_architecture
from mmap_model.backbone import Backbone
from mmap_model.execution import Execution
from mmap_model.methods import Problem, ProblemSize, get_method, method_names
from mmap_model.methods.model import TunedModel
from mmap_model.methods.rows import RowsModel
from mmap_model.testing import CHECKS, Subject
from mmap_model.testing.method_cases import CASES
from mmap_model.training import FusedRun

LEAST_DROP = {"clip_adapter": 0.01, "tip_adapter_f": 1e-4}
"""Nats by which twenty steps must lower the loss of a fixed batch, where 1.0 is too much to ask.

All begin near 3.4. The adapter starts with units that are dead after its ReLUs, and as many as its seed says;
keys that are noise lie far from all images.
"""
PAPER = {
    "bitfit": {"multi": 171_008},
    "clap": {"single": 4 * 33_280, "multi": 33_280},
    "clip_adapter": {"multi": 526_848, "grouped": 6 * 131_712},
    "clip_lora": {"single": 4 * 184_320, "multi": 184_320, "grouped": 6 * 184_320},
    "coop": {"single": 4 * 8_192, "multi": 8_192},
    "full_ft": {"single": 598_482_948, "multi": 149_620_737},
    "ivlp": {"single": 4 * 30_720, "multi": 30_720, "grouped": 6 * 30_720},
    "joint": {"multi": 1_290_240},
    "maple": {"single": 4 * 4_776_960, "multi": 4_776_960},
    "mlp": {"multi": 3_959_808},
    "mmap": {"multi": 129_744},
    "promptsrc": {"single": 4 * 46_080, "multi": 46_080},
    "task_res": {"single": 4 * 33_280, "multi": 33_280, "grouped": 6 * 33_280},
    "tip_adapter": {"single": 0, "multi": 0},
    "tip_adapter_f": {"single": 4 * 199_680, "multi": 4 * 199_680},
    "two_stage": {"single": 4 * 94_720, "multi": 61_440 + 4 * 33_280},
    "vpt": {"single": 4 * 165_888, "multi": 165_888, "grouped": 6 * 165_888},
    "zero_shot": {None: 0},
    "zs_lp": {"single": 4 * 33_280, "multi": 33_280, "grouped": 6 * 33_280},
}
"""ViT-B/16, four tasks of 65 classes at 6 shots, two groups; also behind the paper's "Parameters" row."""


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the towers of all models if MMAP_TEST_COMPILE names a backend of ``torch.compile``."""
    backend = os.environ.get("MMAP_TEST_COMPILE")
    if backend:
        execution = Execution(compile="on")
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        monkeypatch.setattr(TunedModel, "execution", execution)
        monkeypatch.setitem(FusedRun.__init__.__kwdefaults__, "execution", execution)  # type: ignore[misc]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES)
def test_contract(case: str, check: str) -> None:
    name, settings = CASES[case]
    CHECKS[check](Subject(name, settings, LEAST_DROP.get(name, 1.0)))


def test_every_method_is_covered_in_every_regime_and_with_all_kinds_of_modules() -> None:
    assert {name for name, _ in CASES.values()} == set(method_names()) == set(PAPER)
    covered = [(name, settings.get("regime"), settings.get("modules")) for name, settings in CASES.values()]
    for name in method_names():
        defaults = vars(get_method(name).Settings())
        for setting, place in (("regime", 1), ("modules", 2)):
            if setting in defaults:
                hint = get_type_hints(get_method(name).Settings)[setting]
                choices = {
                    c for option in (hint, *get_args(hint)) for c in get_args(option) if isinstance(c, str)
                }
                found = {case[place] or defaults[setting] for case in covered if case[0] == name}
                assert found - {None} == choices, (name, setting)


@pytest.mark.parametrize("name", PAPER)
def test_the_table_of_budgets_has_the_papers_counts(name: str) -> None:
    method, shape = get_method(name), read_architecture("ViT-B-16-quickgelu")
    size = ProblemSize.equal(tasks=4, groups=2, classes=65, shots=6)
    counts = {
        budget.regime: method.parameters(method.Settings(**budget.settings), shape, size)
        for budget in method.budgets
    }
    assert counts == PAPER[name]


@pytest.mark.parametrize("case", [case for case in CASES if "single" in case])
def test_a_task_of_its_own_copy_learns_from_its_own_images_only(
    case: str, tiny_backbone_fp64: Backbone
) -> None:
    name, settings = CASES[case]
    method = get_method(name)
    model = method.build(
        method.Settings(**settings),
        tiny_backbone_fp64,
        Problem(
            classes=[["dog", "cat", "sea turtle"], ["dog", "cat"], ["teddy-bear", "fan"]],
            template="a photo of a {}.",
            partitions=[None, None],
            train_seeds=[1, 2],
        ),
    )
    pixels = torch.randn(2, 3, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model.logits(pixels)[0, 1].log_softmax(-1)[:, 0].mean().backward()
    for name, parameter in model.named_parameters():
        moved = parameter.grad.reshape(*parameter.shape[:2], -1).abs().amax(2) > 0  # type: ignore[union-attr]
        if isinstance(model, RowsModel):  # rows [R, U, E], keyed by task and class
            found = [
                {owner for (owner, _), own in zip(model.index.keys[r], moved[r], strict=True) if own}
                for r in (0, 1)
            ]
            assert found == [{"task 1"}, set()], name
            continue
        assert parameter.shape[:2] == (2, 3)
        assert torch.equal(moved, torch.tensor([[False, True, False], [False] * 3])), name
