"""Search spaces on the real architectures, whose shapes are read without loading weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mmap_model.architecture import Architecture, read_architecture
from mmap_model.cells import Point
from mmap_model.configuration import Grouping
from mmap_model.methods.mmap import MmapSettings
from search_spaces import SearchSpace, build_search_space

Build = Callable[..., SearchSpace]


@pytest.fixture(scope="session")
def vit() -> Architecture:
    return read_architecture("ViT-B-16-quickgelu")


@pytest.fixture(scope="session")
def small() -> Architecture:
    return read_architecture("symbols")


@pytest.fixture
def build(small: Architecture) -> Build:
    """Builds a space of MmAP points on four tasks; keywords as ``build_search_space``, and ``grouping``."""

    def of(*items: Any, grouping: Grouping | None = None, **options: Any) -> SearchSpace:
        named = [{"name": item} if isinstance(item, str) else item for item in items]
        settings = options.pop("settings", MmapSettings(source_cols=32))
        fixed = Point(method="mmap", settings=settings, grouping=grouping or Grouping())
        return build_search_space(named, fixed, **{"architecture": small, "tasks": 4, **options})

    return of
