"""The list of images of a run, on disk: counted and hashed before the first image is read."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from mmap_model.errors import ConfigurationError
from orchestrator.predicting.arguments import ImageSource
from orchestrator.predicting.refs import Ref, shown_path


@dataclass(frozen=True)
class Chunk:
    """Images that are computed at once.

    Attributes:
        start: place of the first in the list.
        refs: consecutive ones.
    """

    start: int
    refs: tuple[Ref, ...]


class Listing:
    """All images in their order. Tables are one line each, so the list of a table takes no room.

    Attributes:
        count: of images.
        sha256: of their names, in order.

    Raises:
        ConfigurationError: there are none.
    """

    def __init__(self, entries: Iterable[ImageSource]) -> None:
        self.count = 0
        digest = hashlib.sha256()
        self._spool = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 (open while this lives)
        for entry in entries:
            self.count += 1 if entry.rows is None else entry.rows
            line = json.dumps([entry.root, entry.path, entry.rows, entry.column])
            self._spool.write(f"{line}\n")
            named = [shown_path(entry.root, entry.path), entry.rows, entry.column]
            digest.update(f"{json.dumps(named)}\n".encode())
        self.sha256 = digest.hexdigest()
        if not self.count:
            self.close()
            raise ConfigurationError(
                "there are no images", where="IMAGES", fix="give files, or folders with images"
            )

    def refs(self) -> Iterator[Ref]:
        """All images. Only one such iteration may be under way."""
        self._spool.seek(0)
        for line in self._spool:
            root, path, rows, column = json.loads(line)
            if rows is None:
                yield Ref(root, path)
            else:
                yield from (Ref(root, path, row, column) for row in range(rows))

    def chunks(self, batch: int, part: int, done: Collection[int] = ()) -> Iterator[Chunk]:
        """The images, without parts ``done``, in chunks of ``batch`` each of one part alone."""
        kept: list[Ref] = []
        for place, ref in enumerate(self.refs()):
            if place // part in done:
                continue
            kept.append(ref)
            if len(kept) == batch or (place + 1) % part == 0 or place + 1 == self.count:
                yield Chunk(place + 1 - len(kept), tuple(kept))
                kept = []

    def close(self) -> None:
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
