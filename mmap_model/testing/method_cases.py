"""Settings of every registered method that differ in what they do; for tests that go over all of them."""

from __future__ import annotations

from typing import Any

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bitfit": ("bitfit", {}),
    "clap": ("clap", {"views": 3}),
    "clap multi": ("clap", {"views": 2, "regime": "multi"}),
    "clip_adapter": ("clip_adapter", {}),
    "clip_adapter shared": ("clip_adapter", {"shared": True, "biases": False, "reduction": 2}),
    "clip_lora": ("clip_lora", {"dropout": 0.0}),
    "clip_lora grouped": ("clip_lora", {"rank": 3, "alpha": 2.0, "dropout": 0.25, "regime": "grouped"}),
    "clip_lora multi": ("clip_lora", {"regime": "multi"}),
    "coop": ("coop", {"prompt_length": 3}),
    "coop single": ("coop", {"prompt_length": 2, "template": "{}", "regime": "single"}),
    "full_ft": ("full_ft", {}),
    "full_ft single": ("full_ft", {"regime": "single"}),
    "joint": ("joint", {"prompt_length": 2}),
    "joint group": ("joint", {"prompt_length": 3, "positions": "assembled", "modules": "group"}),
    "joint task": ("joint", {"prompt_length": 2, "modules": "task"}),
    "maple": ("maple", {"prompt_length": 2}),
    "maple single": ("maple", {"prompt_length": 2, "depth": 2, "before_ln_pre": False, "regime": "single"}),
    "mlp": ("mlp", {"prompt_length": 2, "source_dim": 8}),
    "mlp group": ("mlp", {"prompt_length": 2, "source_dim": 8, "modules": "group"}),
    "mlp task": ("mlp", {"prompt_length": 2, "source_dim": 8, "modules": "task"}),
    "mmap": ("mmap", {"prompt_length": 6, "source_rows": 3, "source_cols": 8}),
    "mmap group": ("mmap", {"prompt_length": 2, "source_rows": 1, "source_cols": 8, "modules": "group"}),
    "mmap task": ("mmap", {"prompt_length": 2, "source_rows": 2, "source_cols": 16, "modules": "task"}),
    "task_res": ("task_res", {"regime": "multi"}),
    "task_res grouped": ("task_res", {"alpha": 1.0, "regime": "grouped"}),
    "task_res single": ("task_res", {"regime": "single"}),
    "tip_adapter": ("tip_adapter", {"views": 2}),
    "tip_adapter multi": ("tip_adapter", {"views": 1, "beta": 5.5, "regime": "multi"}),
    "tip_adapter_f": ("tip_adapter_f", {"views": 2}),
    "tip_adapter_f multi": ("tip_adapter_f", {"views": 2, "alpha": 3.0, "regime": "multi"}),
    "two_stage": ("two_stage", {}),
    "two_stage multi": ("two_stage", {"regime": "multi"}),
    "vpt": ("vpt", {"prompt_length": 3}),
    "vpt single": ("vpt", {"prompt_length": 3, "depth": 1, "before_ln_pre": True, "regime": "single"}),
    "zero_shot": ("zero_shot", {}),
    "zs_lp": ("zs_lp", {"regime": "multi"}),
    "zs_lp grouped": ("zs_lp", {"regime": "grouped"}),
    "zs_lp single": ("zs_lp", {}),
}
"""Registered name and settings, by a name of the case."""
