"""Tuning methods, one folder each, registered by name."""

from mmap_model.methods import bitfit, clip_adapter, coop, full_ft, joint, maple, mlp, mmap, vpt, zero_shot
from mmap_model.methods.base import Budget, Method, get_method, method_names, register

__all__ = [
    "Budget",
    "Method",
    "bitfit",
    "clip_adapter",
    "coop",
    "full_ft",
    "get_method",
    "joint",
    "maple",
    "method_names",
    "mlp",
    "mmap",
    "register",
    "vpt",
    "zero_shot",
]
