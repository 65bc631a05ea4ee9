"""The data and the weights of a study, by content: kept with it, sent with its work, compared everywhere.

Two cells compare only if both are the same. Their keys hold the hashes; here is besides what tells where two
of them differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from mmap_model.data.content import TaskContent, task_contents
from mmap_model.errors import InputError
from mmap_model.plain import from_plain, to_plain

if TYPE_CHECKING:
    from mmap_model.data import Dataset

RENDERERS = ("pillow", "numpy")
"""Packages that the pixels of ``symbols`` depend on."""

NAMED = 3
"""Classes that are named where more differ."""


class OtherInputs(InputError):
    """Images or weights that are not those of the study."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a study is trained on.

    Attributes:
        manifest: of the dataset.
        fingerprint: of the backbone.
        tasks: the images by task; empty where only the hashes are known.
        weights: hashes of groups of the backbone's tensors, as far as known.
        versions: of the packages that may make other pixels.
    """

    manifest: str
    fingerprint: str
    tasks: dict[str, TaskContent] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, fingerprint: str, weights: Mapping[str, str] | None = None) -> Inputs:
        """Those of an opened dataset and of a backbone. Reads some of the images."""
        return cls(
            manifest=dataset.manifest,
            fingerprint=fingerprint,
            tasks=task_contents(dataset),
            weights=dict(weights or {}),
            versions=dict(_versions()),
        )

    def short(self) -> Inputs:
        """Without class names: what goes along with every item."""
        tasks = {name: replace(content, names=()) for name, content in self.tasks.items()}
        return replace(self, tasks=tasks)

    def to_dict(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Inputs:
        return from_plain(cls, data, "inputs")


@dataclass(frozen=True)
class InputDifference:
    """What differs between two inputs, for people."""

    what: Literal["images", "weights"]
    text: str


def differences(known: Inputs, found: Inputs) -> list[InputDifference]:
    """What differs between the inputs that a study was begun with and those found now; empty if nothing."""
    told = []
    images = [*_images(known, found)]
    if images or known.manifest != found.manifest:
        said = "; ".join(images) or _unseen(known, found)
        hashes = f"manifest {known.manifest}, found {found.manifest}"
        told.append(InputDifference("images", f"{said} ({hashes}{_versions_apart(known, found)})"))
    if known.fingerprint != found.fingerprint:
        hashes = f"fingerprint {known.fingerprint}, found {found.fingerprint}"
        told.append(InputDifference("weights", f"{_weights(known, found)} ({hashes})"))
    return told


def require_same(known: Inputs, found: Inputs, *, opening: str, fix: str) -> None:
    """Raise `OtherInputs`, saying what differs, unless ``found`` is what a study was begun with.

    Args:
        known: of the study.
        found: here and now.
        opening: of the sentence, with ``{what}`` for images or weights.
        fix: what to do, the same.
    """
    told = differences(known, found)
    if told:
        what = " and ".join(difference.what for difference in told)
        raise OtherInputs(
            f"{opening.format(what=what)}: " + "; ".join(difference.text for difference in told),
            where="dataset" if told[0].what == "images" else "backbone",
            fix=fix.format(what=what),
        )


def pixels_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Of inputs as a dictionary, the hashes of the images' bytes by task, as far as known.

    They are kept with what a cell leaves: its key knows names and sizes of files alone.
    """
    tasks = inputs.get("tasks", {}).items()
    return {name: content["pixels"] for name, content in tasks if content.get("pixels") is not None}


def pixels_apart(known: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Tasks whose images have other bytes; those of which either is unknown count as the same."""
    return [task for task in known if found.get(task, known[task]) != known[task]]


def _images(known: Inputs, found: Inputs) -> Iterator[str]:
    if not known.tasks or not found.tasks:
        return
    for name in {**known.tasks, **found.tasks}:
        before, now = known.tasks.get(name), found.tasks.get(name)
        if before is None or now is None:
            yield f"task {name!r} is {'new' if before is None else 'missing'}"
        elif before.classes != now.classes:
            yield f"task {name!r} has {_other_classes(before, now)}"
        elif before.images != now.images:
            yield f"task {name!r} has {sum(before.images)} images, found {sum(now.images)}" + _counts(
                before, now
            )
        elif None not in (before.listed, now.listed) and before.listed != now.listed:
            yield f"task {name!r} has other file names or sizes, as many as before"
        elif None not in (before.pixels, now.pixels) and before.pixels != now.pixels:
            yield f"task {name!r} has other bytes under the same file names and sizes"


def _unseen(known: Inputs, found: Inputs) -> str:
    """What may differ where no task shows it."""
    contents = [*known.tasks.values(), *found.tasks.values()]
    lists = "the fixed lists, or the division into training and test images"
    if known.tasks and found.tasks and all(content.listed for content in contents):
        return f"{lists}, differ"
    return f"images, their names, {lists}, differ"


def _other_classes(before: TaskContent, now: TaskContent) -> str:
    counts = len(before.images), len(now.images)
    said = f"{counts[0]} classes, found {counts[1]}" if counts[0] != counts[1] else "other class names"
    gone = [name for name in before.names if name not in now.names]
    new = [name for name in now.names if name not in before.names]
    if not before.names or not now.names or not (gone or new):
        return said
    parts = [f"{title} {_listed(names)}" for title, names in (("without", gone), ("with", new)) if names]
    return f"{said} ({', '.join(parts)})"


def _counts(before: TaskContent, now: TaskContent) -> str:
    """``(Bed: 40, found 39)``."""
    names = now.names or before.names or tuple(f"class {i}" for i in range(len(now.images)))
    apart = [
        f"{name}: {old}, found {new}"
        for name, old, new in zip(names, before.images, now.images, strict=True)
        if old != new
    ]
    return f" ({_listed(apart)})"


def _listed(names: list[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])


def _weights(known: Inputs, found: Inputs) -> str:
    apart = [
        name
        for name in {**known.weights, **found.weights}
        if known.weights.get(name) != found.weights.get(name)
    ]
    if not known.weights or not found.weights or not apart:
        return "the backbone differs"
    return f"the backbone differs in {', '.join(apart)}"


def _versions_apart(known: Inputs, found: Inputs) -> str:
    said = [
        f"; {name} {known.versions[name]}, found {found.versions[name]}"
        for name in known.versions.keys() & found.versions.keys()
        if known.versions[name] != found.versions[name]
    ]
    return "".join(sorted(said))


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in RENDERERS}
