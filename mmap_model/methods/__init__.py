"""Tuning methods, one folder each, registered by name."""

from mmap_model.methods import mmap, zero_shot
from mmap_model.methods.base import Method, get_method, method_names, register

__all__ = ["Method", "get_method", "method_names", "mmap", "register", "zero_shot"]
