"""What a tree looks like that is not ``<root>/<domain>/<class>/<image>``, and which key describes it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.sources.listing import PARTS, holds_images, parts_of, subfolders
from mmap_model.errors import DatasetError

WANTED = "<root>/<domain>/<class>/<image>"
LAY_OUT = f"lay images out as {WANTED}"


def check_shape(root: Path, domains: Sequence[str], spec: DatasetSpec) -> None:
    """Raise DatasetError if the whole tree has another shape; one wrong domain among others is a fault.

    Args:
        root: its folder.
        domains: the folders that would be tasks.
        spec: tasks that it names are meant so, whatever they are called.
    """
    if not domains:
        _refuse_empty(root)
    if spec.tasks is None and {name.lower() for name in domains} <= PARTS:
        _refuse_parts(root, domains)
    if all(_is_class(root / name) for name in domains):
        _refuse_classes(root, domains)
    deeper = [name for name in domains if _is_tree(root / name)]
    if len(deeper) == len(domains):
        raise _wrong(
            root,
            f"<root>/{deeper[0]}/<domain>/<class>/<image>",
            f"its images lie one folder deeper than in {WANTED}",
            f"set {shlex.quote(f'dataset.root={root / deeper[0]}')}"
            + (f"; {_listed(deeper)} are a dataset each" if len(deeper) > 1 else ""),
        )


def looks_like(domain: Path) -> str:
    """Why a folder has no classes, for the message about one domain among others."""
    if holds_images(domain):
        return "it holds images itself, no class folders"
    if any(holds_images(domain / a / b) for a in subfolders(domain) for b in subfolders(domain / a)):
        return "its images lie one folder deeper than those of other domains"
    return "none of its folders holds an image"


def _refuse_empty(root: Path) -> None:
    if holds_images(root):
        raise _wrong(
            root,
            "<root>/<image>",
            "all images lie in one folder, which says nothing of their classes",
            f"{LAY_OUT}; or, where a list or table names their classes, describe it in a custom layout "
            "(docs/custom_layout.md)",
        )
    raise DatasetError(f"{root} holds no domain folders", where="dataset.root", fix=LAY_OUT)


def _refuse_parts(root: Path, parts: Sequence[str]) -> None:
    """Folders called train and test would become tasks."""
    inside = [name for part in parts for name in subfolders(root / part)]
    whole = any(holds_images(root / part / name) for part in parts for name in subfolders(root / part))
    meant = f"if they are meant as tasks, name them: {shlex.quote(f'dataset.tasks={_names(parts)}')}"
    if inside and not whole:
        raise _wrong(
            root,
            f"<root>/{parts[0]}/<domain>/<class>/<image>",
            f"{_listed(parts)} would be its tasks",
            f"move the domains to the top, as <root>/<domain>/{parts[0]}/<class>/<image>; {meant}",
        )
    raise _wrong(
        root,
        f"<root>/{parts[0]}/<class>/<image>",
        f"{_listed(parts)} would be its tasks",
        f"{_one_domain(root)}, whose parts are then read together; {meant}",
    )


def _refuse_classes(root: Path, classes: Sequence[str]) -> None:
    raise _wrong(
        root,
        "<root>/<class>/<image>",
        f"{_listed(classes)} hold images themselves and would be tasks without classes",
        f"{_one_domain(root)}; with several domains {LAY_OUT}",
    )


def _one_domain(root: Path) -> str:
    """The keys that make one task of a tree of classes."""
    whole = Path(os.path.abspath(root))  # noqa: PTH100 (a link keeps its name)
    keys = (f"dataset.root={whole.parent}", f"dataset.tasks={_names([whole.name])}")
    return f"for one domain, set {' '.join(map(shlex.quote, keys))}"


def _names(tasks: Sequence[str]) -> str:
    return json.dumps([*tasks], ensure_ascii=False)


def _is_class(folder: Path) -> bool:
    """Images in it, and none below."""
    return holds_images(folder) and not any(holds_images(folder / name) for name in subfolders(folder))


def _is_tree(folder: Path) -> bool:
    """Domains in it, with classes in them: images three folders below."""
    inside = subfolders(folder)
    if not inside or holds_images(folder) or any(holds_images(folder / name) for name in inside):
        return False
    if parts_of(folder) != [""]:
        return False
    return any(holds_images(folder / a / b) for a in inside for b in subfolders(folder / a))


def _wrong(root: Path, shape: str, problem: str, fix: str) -> DatasetError:
    return DatasetError(f"{root} looks like {shape}: {problem}", where="dataset.root", fix=fix)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" … ({len(names)} folders)" if len(names) > 3 else "")
