"""Which image is meant: a file, or a row of a table, here or on any place of ``pyarrow.fs``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmap_model.errors import ConfigurationError
from orchestrator.redaction import redact, shown_uri


@dataclass(frozen=True, slots=True)
class Ref:
    """One image.

    Attributes:
        root: URI of the bucket or host with its options, "" for this machine.
        path: below the root; of this machine as it was typed.
        row: of a table, from 0; None for a file.
        column: of the table.
    """

    root: str
    path: str
    row: int | None = None
    column: str | None = None

    @property
    def name(self) -> str:
        """For people and results: the path, or URI without options; ``#`` and the row in a table."""
        row = "" if self.row is None else f"#{self.row}"
        return shown_path(self.root, self.path) + row

    def absolute(self) -> Ref:
        """The same for a process that has another working directory."""
        return self if self.root else replace(self, path=str(Path(self.path).absolute()))

    def read(self) -> Path | bytes:
        """The file, or its bytes where it is on another machine. Raises OSError."""
        if not self.root:
            return Path(self.path)
        system, path = located(self.root, self.path)
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())


def shown_path(root: str, path: str) -> str:
    """A file's name for people and results: valid UTF-8, no credentials."""
    name = f"{shown_uri(root)}/{path}" if root else path
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_uri(text: str) -> bool:
    return "://" in text and not text.startswith("file://")


def split_uri(uri: str) -> tuple[str, str]:
    """Root and path of a URI; nothing in the path is taken for an escape."""
    place, mark, options = uri.partition("?")
    scheme, _, rest = place.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}{mark}{options}", path.rstrip("/")


def located(root: str, path: str) -> tuple[Any, str]:
    """The file system of a root and the path in it."""
    system, base = _file_system(root)
    return system, f"{base}/{path}" if path else base


def below(root: str, path: str) -> str:
    """The opposite of ``located``: relative to the root."""
    return path.removeprefix(f"{_file_system(root)[1]}/")


@lru_cache(maxsize=64)
def _file_system(root: str) -> tuple[Any, str]:
    from pyarrow import ArrowInvalid, ArrowNotImplementedError, fs

    try:
        system, base = fs.FileSystem.from_uri(root)
    except (ArrowInvalid, ArrowNotImplementedError, ValueError, ImportError, OSError) as error:
        raise ConfigurationError(
            f"{shown_uri(root)!r} cannot be opened: {redact(str(error))}",
            where="IMAGES",
            fix="use a local path, or s3://bucket/path, gs://…, abfs://…, hdfs://…",
        ) from error
    return system, base.rstrip("/")
