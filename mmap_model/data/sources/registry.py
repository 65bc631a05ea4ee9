"""Layouts of images by name, and the sources that they list."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.faults import KINDS, Fault
from mmap_model.data.sources.base import NO_ALIASES, Source, loose
from mmap_model.data.sources.custom import custom_layout
from mmap_model.data.sources.links import links_outside
from mmap_model.data.sources.names import unusable_names
from mmap_model.data.sources.selection import select
from mmap_model.errors import DatasetError, DatasetWarning, nearest
from mmap_model.references import parse

SourceOpener = Callable[[DatasetSpec], Source]


@dataclass(frozen=True)
class Layout:
    """How images lie, by name.

    Attributes:
        name: part of the key of every draw; of an own layout that of its class.
        opener: lists images.
        aliases: names that tasks have in other copies, in the form of `loose`, to their own.
    """

    name: str
    opener: SourceOpener
    aliases: Mapping[str, str]

    def canonical(self, spec: DatasetSpec) -> DatasetSpec:
        """``spec`` with the layout and its tasks under their own names."""
        tasks = spec.tasks and tuple(self.aliases.get(loose(task), task) for task in spec.tasks)
        return replace(spec, name=self.name, tasks=tasks)


_REGISTRY: dict[str, Layout] = {}


def register_source(name: str, opener: SourceOpener, aliases: Mapping[str, str] = NO_ALIASES) -> None:
    """Add a layout under a name; `open_dataset` knows it from then on too. See `Layout`.

    Raises:
        DatasetError: the name is taken.
    """
    if name in _REGISTRY:
        raise DatasetError(f"dataset {name!r} is registered twice", fix="choose another name")
    _REGISTRY[name] = Layout(name, opener, aliases)


def source_names() -> tuple[str, ...]:
    """All registered layouts, sorted."""
    return tuple(sorted(_REGISTRY))


def is_layout(name: str) -> bool:
    """Whether ``name`` is that of a registered layout, or a reference to a custom one."""
    return name in _REGISTRY or parse(name) is not None


def get_layout(name: str, where: str = "dataset.name") -> Layout:
    """The layout of that name.

    Args:
        name: a registered name; ``file.py:MyLayout`` or ``my_module:MyLayout`` for a custom one.
        where: the key or option that gave it, for messages.

    Raises:
        DatasetError: there is none, with the nearest known name; or it is no layout.
    """
    if name in _REGISTRY:
        return _REGISTRY[name]
    if (reference := parse(name)) is None:
        raise DatasetError(
            f"{name!r} is not a layout of images on disk",
            where=where,
            fix=f"{nearest(name, _REGISTRY)}; {CUSTOM}",
        )
    kind = custom_layout(name, reference, where)
    if kind.name in _REGISTRY:
        raise DatasetError(
            f"{name}: {kind.name!r} is a layout of this package",
            where=where,
            fix="give the class another name",
        )
    return Layout(kind.name, kind, kind.aliases)


CUSTOM = "a custom one is given as file.py:MyLayout or my_module:MyLayout"
"""What messages say beside the names that are known."""


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
    told = [f for f in source.faults if f.severity == "warning" or f.kind == "by_content"]
    if told:
        warnings.warn(_told(told), DatasetWarning, stacklevel=2)
    return source


def _told(faults: Sequence[Fault]) -> str:
    """One line for each kind of finding, with an example."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    lines = [
        f"{KINDS[kind].title}, {KINDS[kind].remedy}: {found[0].where}: {found[0].problem}"
        + (f" (and {len(found) - 1} more such folders)" if len(found) > 1 else "")
        for kind, found in kinds.items()
    ]
    return "\n".join([*lines, "`orchestrator data check --all` lists them"])


def list_source(spec: DatasetSpec) -> Source:
    """As `open_source`, but what can be left out is left out and told in ``faults``.

    Raises:
        DatasetError: nothing can be listed.
    """
    layout = get_layout(spec.name)
    spec = layout.canonical(spec)
    source = select(layout.opener(spec), spec)
    source.faults = (*source.faults, *unusable_names(source))
    if spec.links == "inside":
        source.faults = (*source.faults, *links_outside(source, spec))
    return source
