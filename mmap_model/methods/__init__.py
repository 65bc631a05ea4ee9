"""Tuning methods, one folder each, registered by name."""

from mmap_model.methods import (
    bitfit,
    clap,
    clip_adapter,
    clip_lora,
    coop,
    full_ft,
    joint,
    maple,
    mlp,
    mmap,
    task_res,
    tip_adapter,
    tip_adapter_f,
    two_stage,
    vpt,
    zero_shot,
    zs_lp,
)
from mmap_model.methods.base import Budget, Method, method_names, register
from mmap_model.methods.problem import Problem, ProblemSize
from mmap_model.methods.registry import get_method, method_identity, own_provenance

__all__ = [
    "Budget",
    "Method",
    "Problem",
    "ProblemSize",
    "bitfit",
    "clap",
    "clip_adapter",
    "clip_lora",
    "coop",
    "full_ft",
    "get_method",
    "joint",
    "maple",
    "method_identity",
    "method_names",
    "mlp",
    "mmap",
    "own_provenance",
    "register",
    "task_res",
    "tip_adapter",
    "tip_adapter_f",
    "two_stage",
    "vpt",
    "zero_shot",
    "zs_lp",
]
