"""Tuning methods, one folder each, registered by name."""

from mmap_model.methods import bitfit, clip_adapter, coop, full_ft, joint, maple, mlp, mmap, vpt, zero_shot
from mmap_model.methods.base import Budget, Method, method_names, register
from mmap_model.methods.problem import Problem
from mmap_model.methods.registry import get_method, method_identity, own_provenance

__all__ = [
    "Budget",
    "Method",
    "Problem",
    "bitfit",
    "clip_adapter",
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
    "vpt",
    "zero_shot",
]
