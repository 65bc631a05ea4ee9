"""Layouts of images by name, and the sources that they list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.faults import KINDS
from mmap_model.data.sources.base import NO_ALIASES, Source, loose
from mmap_model.data.sources.selection import select
from mmap_model.errors import DatasetError, nearest

SourceOpener = Callable[[DatasetSpec], Source]
_REGISTRY: dict[str, SourceOpener] = {}
_ALIASES: dict[str, Mapping[str, str]] = {}


def register_source(name: str, opener: SourceOpener, aliases: Mapping[str, str] = NO_ALIASES) -> None:
    """Add a layout under a name; `open_dataset` knows it from then on too.

    Args:
        name: of the layout.
        opener: lists it.
        aliases: other names of its tasks, in the form of `loose`.

    Raises:
        DatasetError: the name is taken.
    """
    if name in _REGISTRY:
        raise DatasetError(f"dataset {name!r} is registered twice", fix="choose another name")
    _REGISTRY[name] = opener
    _ALIASES[name] = aliases


def canonical(spec: DatasetSpec) -> DatasetSpec:
    """``spec`` with its tasks under the layout's own names."""
    known = aliases_of(spec.name)
    tasks = spec.tasks and tuple(known.get(loose(task), task) for task in spec.tasks)
    return replace(spec, tasks=tasks)


def aliases_of(name: str) -> Mapping[str, str]:
    """Other names of the tasks of a layout, in the form of `loose`."""
    return _ALIASES.get(name, NO_ALIASES)


def source_names() -> tuple[str, ...]:
    """All registered layouts, sorted."""
    return tuple(sorted(_REGISTRY))


def open_source(spec: DatasetSpec) -> Source:
    """List the images of ``spec``: its tasks and classes, without the excluded images.

    Raises:
        DatasetError: an unknown layout, or files that are not laid out as it says; names what is missing.
    """
    source = list_source(spec)
    errors = [fault for fault in source.faults if fault.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more such findings)" if len(errors) > 1 else ""
        raise DatasetError(
            f"{errors[0].where}: {errors[0].problem}{more}",
            where="dataset.root",
            fix=f"{KINDS[errors[0].kind].remedy}; `orchestrator data check` lists all that is wrong",
        )
    return source


def list_source(spec: DatasetSpec) -> Source:
    """As `open_source`, but what can be left out is left out and told in ``faults``.

    Raises:
        DatasetError: nothing can be listed.
    """
    if spec.name not in _REGISTRY:
        raise DatasetError(
            f"{spec.name!r} is no layout of images on disk",
            where="dataset.name",
            fix=nearest(spec.name, _REGISTRY),
        )
    spec = canonical(spec)
    return select(_REGISTRY[spec.name](spec), spec)
