"""An artefact: a folder whose ``artefact.json`` describes the files beside it. No torch here."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mmap_model.errors import CheckpointError, ConfigurationError, InputError
from mmap_model.plain import from_plain, to_plain
from mmap_model.preprocessing import MODES, Preprocessing, Resize

DESCRIPTION = "artefact.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of an artefact: its SHA-256, 64 hexadecimal digits, and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A task that an artefact classifies.

    Attributes:
        name: of the task.
        classes: in the order of the logits.
        validation_accuracy: of what was exported, in [0, 1]; None if it was not measured.
        template: of class prompts, where it is not the one trained with.
    """

    name: str
    classes: tuple[str, ...]
    validation_accuracy: float | None = None
    template: str | None = None


@dataclass(frozen=True, kw_only=True)
class PreprocessingEntry:
    """How images become pixels, in open_clip's names; ``mean`` and ``std`` by channel of [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    resize_mode: str
    interpolation: str
    fill_color: int

    @classmethod
    def of(cls, preprocessing: Preprocessing, size: int) -> PreprocessingEntry:
        resize = preprocessing.resize
        return cls(
            mean=preprocessing.mean,
            std=preprocessing.std,
            size=size,
            resize_mode=resize.mode,
            interpolation=resize.interpolation,
            fill_color=resize.fill,
        )

    @property
    def resize(self) -> Resize:
        mode = next(mode for mode in MODES if mode == self.resize_mode)
        return Resize(mode, "bilinear" if self.interpolation == "bilinear" else "bicubic", self.fill_color)


@dataclass(frozen=True, kw_only=True)
class BackboneEntry:
    """The CLIP that was tuned.

    Attributes:
        model, pretrained, activation: as of ``BackboneSpec``; ``model`` is None of one that has no name.
        fingerprint: of its weights and preprocessing.
        licence: a note on what its weights may be used for.
    """

    model: str | None
    pretrained: str | None = None
    activation: str | None = None
    fingerprint: str
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """What was trained.

    Attributes:
        name: as a study names the method.
        settings: all of them that are not the method's defaults by omission.
        template: of class prompts, of the recipe.
        version, sha256: of a custom method, and of its files by name.
    """

    name: str
    settings: Mapping[str, Any]
    template: str
    version: int | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArtefactSource:
    """Where the exported weights come from; None and empty where nobody said.

    Attributes:
        study, trial: name and number.
        cells: keys.
        split, seed: labels of what the exported weights were trained with, such as ``3-shot`` and ``1``.
        reason: why this seed.
        precision: that it was trained in.
        validation: numbers of this seed.
        mean: the same, means over the seeds.
    """

    study: str | None = None
    trial: int | None = None
    cells: tuple[str, ...] = ()
    split: str | None = None
    seed: str | None = None
    reason: str | None = None
    precision: str | None = None
    validation: Mapping[str, Any] = field(default_factory=dict)
    mean: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """What ``artefact.json`` says.

    Attributes:
        kind: the format of the files.
        created_at: UTC, ISO 8601.
        files: by name, ``/`` between folders.
        tasks: in the order of their indices.
        preprocessing: of images.
        logit_scale: by task; logits are this times the cosine of image and class.
        backbone, method, source: what was trained, of which CLIP, and where it was recorded.
        text_tower: further classes can be named, as a text tower comes with it or with the CLIP it needs.
        calibrated: probabilities are of one head; False once trained and zero-shot classes are mixed.
        versions: of what wrote it.
        task_features: file with the mean unit feature of each task's training images, or None.
        task_accuracy: share of validation images, in [0, 1], whose own task these means find; None if not
            measured.
        notes: what a user should know, one sentence each.
    """

    format: int = FORMAT
    kind: str
    created_at: str
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    tasks: tuple[TaskEntry, ...]
    preprocessing: PreprocessingEntry
    logit_scale: tuple[float, ...]
    backbone: BackboneEntry
    method: MethodEntry
    source: ArtefactSource = ArtefactSource()
    text_tower: bool
    calibrated: bool = True
    versions: Mapping[str, str | None] = field(default_factory=dict)
    task_features: str | None = None
    task_accuracy: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def inside(self) -> tuple[str, ...]:
        """Folders of the artefacts that this one holds, by name."""
        ends = f"/{DESCRIPTION}"
        return tuple(sorted(name.removesuffix(ends) for name in self.files if name.endswith(ends)))

    @classmethod
    def read(cls, folder: str | Path) -> Artefact:
        """The description of the artefact in ``folder``, after every file has been checked against it.

        Raises:
            CheckpointError: no artefact, one of a later format, or one with a missing or changed file.
        """
        folder = Path(folder)
        artefact = cls.describe(folder)
        for name, entry in sorted(artefact.files.items()):
            path = folder / name
            if not path.is_file():
                raise CheckpointError(
                    f"{name} is missing", where=str(folder), fix="copy the whole folder of the artefact"
                )
            if file_entry(path) != entry:
                raise CheckpointError(
                    f"does not have the hash and size that {DESCRIPTION} gives",
                    where=str(path),
                    fix="copy the artefact again, or export it again",
                )
        return artefact

    @classmethod
    def describe(cls, folder: str | Path) -> Artefact:
        """The description of the artefact in ``folder``; its files are not looked at.

        Raises:
            CheckpointError: as ``read``.
        """
        where = str(Path(folder) / DESCRIPTION)
        try:
            data = json.loads(Path(where).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(
                f"there is no {DESCRIPTION}",
                where=str(folder),
                fix="give the folder that orchestrator export wrote",
            ) from None
        except NotADirectoryError:
            raise CheckpointError(
                "is a file", where=str(folder), fix="give the folder that orchestrator export wrote"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise _damaged(where, str(error)) from error
        if not isinstance(data, dict) or "format" not in data:
            raise _damaged(where, "it says no format")
        if data["format"] != FORMAT:
            raise CheckpointError(
                f"format {data['format']!r} is not {FORMAT}", where=where, fix="use the release that wrote it"
            )
        try:
            artefact = from_plain(cls, data, DESCRIPTION)
        except InputError as error:
            raise _damaged(where, error.problem) from error
        _check(artefact, where)
        return artefact

    def write(self, folder: str | Path, fill: Callable[[Path], None]) -> Artefact:
        """Make the artefact's folder, all of it or nothing.

        Args:
            folder: to make; it must not exist, or be empty.
            fill: writes the files into the folder that it is given.

        Returns:
            The same with ``files``.

        Raises:
            CheckpointError: the folder holds something.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(
                "exists already", where=str(folder), fix="give a folder that does not exist, or remove it"
            )
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            fill(partial)
            paths = sorted(path for path in partial.rglob("*") if path.is_file())
            entries = {path.relative_to(partial).as_posix(): file_entry(path) for path in paths}
            written = replace(self, files=entries)
            (partial / DESCRIPTION).write_text(written.to_json(), encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return written

    def to_json(self) -> str:
        """As in ``artefact.json``."""
        text = json.dumps(to_plain(self), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return text + "\n"

    def task(self, task: int | str | None, where: str = "task") -> int:
        """The index of a task.

        Raises:
            ConfigurationError: the artefact has none of that name or index, with those that it has.
        """
        names = [entry.name for entry in self.tasks]
        if isinstance(task, str) and task in names:
            return names.index(task)
        if isinstance(task, int) and 0 <= task < len(names):
            return int(task)
        raise ConfigurationError(
            "not given" if task is None else f"there is no task {task!r}",
            where=where,
            fix=f"use one of {', '.join(names)}",
        )


def file_entry(path: Path) -> FileEntry:
    """The hash and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=path.stat().st_size)


def _check(artefact: Artefact, where: str) -> None:
    """What the types do not say."""
    for name in artefact.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise _damaged(where, f"{name!r} is not a file of the folder")
    if not artefact.tasks or not all(task.classes for task in artefact.tasks):
        raise _damaged(where, "a task with classes is missing")
    if len(artefact.logit_scale) != len(artefact.tasks):
        raise _damaged(where, "there is not one logit_scale for each task")
    if artefact.task_features is not None and artefact.task_features not in artefact.files:
        raise _damaged(where, f"task_features {artefact.task_features!r} is not among its files")
    size = artefact.preprocessing
    if size.resize_mode not in MODES or size.interpolation not in ("bicubic", "bilinear") or size.size < 1:
        raise _damaged(where, f"its preprocessing {to_plain(size)} is not known")


def _damaged(where: str, problem: str) -> CheckpointError:
    return CheckpointError(
        f"damaged: {problem}", where=where, fix="copy the artefact again, or export it again"
    )
