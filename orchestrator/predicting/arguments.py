"""What was typed as images: files, folders, patterns, tables and lists, in a fixed order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mmap_model.data.faults import Fault
from mmap_model.data.sources.files import is_image
from mmap_model.data.sources.listing import image_files, subfolders
from mmap_model.errors import ConfigurationError, DatasetError
from mmap_model.paths import expanded
from orchestrator.predicting.refs import below, is_uri, located, shown_path, split_uri
from orchestrator.predicting.tables import SUFFIX, ImageTable
from orchestrator.redaction import redact

LISTS = frozenset({".txt", ".csv", ".tsv", ".json", ".jsonl", ".arrow", ".feather"})
"""Suffixes of files that are no images and that somebody may give for a list of them."""

SHOWN = 3
"""Notes on what was left out that are shown."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A file that is an image, or a table of them.

    Attributes:
        root, path: see ``Ref``.
        rows: of the table, None for an image.
        column: of the table.
    """

    root: str
    path: str
    rows: int | None = None
    column: str | None = None


@dataclass
class Arguments:
    """Images as they were named.

    Attributes:
        given: as typed.
        column: of images in tables; None: the only one that fits, or ``image``.
        listed: where ``-`` reads names from, one a line.
        left_out: notes on what lies in folders and is no image; complete after all entries were taken.
    """

    given: Iterable[str]
    column: str | None = None
    listed: IO[bytes] | None = None
    left_out: list[str] = field(default_factory=list)

    def entries(self) -> Iterator[ImageSource]:
        """In the order of the arguments. A folder's images are sorted, those of its own before its folders'.

        Raises:
            ConfigurationError: nothing is there, or it is no image by its name.
        """
        for argument in self.given:
            if argument == "-":
                yield from self._listed()
            elif is_uri(argument):
                yield from self._remote(*split_uri(argument), argument)
            else:
                yield from self._local(argument.removeprefix("file://"))

    def _listed(self) -> Iterator[ImageSource]:
        for line in self.listed or ():
            name = os.fsdecode(line.rstrip(b"\r\n"))
            if name.strip():
                yield ImageSource(*split_uri(name)) if is_uri(name) else ImageSource("", name)

    def _local(self, argument: str) -> Iterator[ImageSource]:
        path = expanded(argument)
        if path.is_dir():
            yield from self._folder(path)
        elif path.exists():
            yield self._file("", str(path))
        elif glob.has_magic(argument) and (matches := sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207
            for match in matches:
                if Path(match).is_file():
                    yield self._file("", match)
                elif "**" not in argument:  # such a pattern names what is in the folder, too
                    yield from self._folder(Path(match))
        else:
            raise _missing(argument)

    def _folder(self, folder: Path) -> Iterator[ImageSource]:
        empty = True
        try:
            for path in self._images(folder, frozenset()):
                empty = False
                yield ImageSource("", path)
        except DatasetError as error:
            raise ConfigurationError(error.problem, where="IMAGES", fix=error.fix) from error
        tables = sorted(folder.rglob(f"*{SUFFIX}")) if empty else []
        for table in tables:
            yield self._table("", str(table))

    def _images(self, folder: Path, above: frozenset[str]) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in above:  # a link to a folder that it lies in
            return
        faults: list[Fault] = []
        for image in image_files(folder, "", faults):
            yield str(folder / image.path)
        for fault in faults:
            if fault.kind not in ("nested", "by_content"):
                self.left_out.append(f"{folder}: {fault.problem}")
        for name in subfolders(folder):
            yield from self._images(folder / name, above | {real})

    def _remote(self, root: str, path: str, argument: str) -> Iterator[ImageSource]:
        from pyarrow import fs

        system, place = located(root, path)
        try:
            info = system.get_file_info(place)
            if info.type == fs.FileType.File:
                yield self._file(root, path)
                return
            found = system.get_file_info(fs.FileSelector(place, recursive=True))
        except FileNotFoundError:
            raise _missing(argument) from None
        except OSError as error:
            raise ConfigurationError(
                f"{shown_path(root, path)} cannot be listed: {redact(str(error)).splitlines()[0]}",
                where="IMAGES",
                fix="check its name, and the credentials in the environment",
            ) from error
        files = sorted(below(root, one.path) for one in found if one.is_file and one.base_name[:1] != ".")
        images = [name for name in files if is_image(name)]
        yield from (ImageSource(root, name) for name in images)
        tables = [] if images else [name for name in files if name.endswith(SUFFIX)]
        for name in tables:
            yield self._table(root, name)
        if others := len(files) - len(images) - len(tables):
            self.left_out.append(
                f"{shown_path(root, path)}: {others} files whose names are not those of images"
            )
        if not files:
            raise _missing(argument)

    def _file(self, root: str, path: str) -> ImageSource:
        suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 (as of URIs)
        if suffix == SUFFIX:
            return self._table(root, path)
        if suffix in LISTS:
            raise ConfigurationError(
                f"{shown_path(root, path)} is not an image",
                where="IMAGES",
                fix="give a list of files on standard input: … - < list.txt; tables are Parquet files",
            )
        return ImageSource(root, path)

    def _table(self, root: str, path: str) -> ImageSource:
        table = ImageTable(root, path, self.column)
        return ImageSource(root, path, table.rows, table.column)


def _missing(argument: str) -> ConfigurationError:
    return ConfigurationError(
        f"there is no {redact(argument)}", where="IMAGES", fix="give files, folders, patterns, tables or -"
    )
