"""Tuning methods, one folder each, registered by name."""

from mmap_model.methods import bitfit, clip_adapter, coop, full_ft, joint, maple, mlp, mmap, vpt, zero_shot
from mmap_model.methods.base import Budget, Method, get_method, method_identity, method_names, register
from mmap_model.methods.own import own_provenance, own_sources

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
    "method_identity",
    "method_names",
    "mlp",
    "mmap",
    "own_provenance",
    "own_sources",
    "register",
    "vpt",
    "zero_shot",
]
