"""Images read and decoded ahead of what computes, by threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mmap_model.data.ahead import ahead
from mmap_model.errors import ConfigurationError, DatasetError
from orchestrator.predicting.listing import Chunk
from orchestrator.predicting.refs import Ref
from orchestrator.predicting.tables import ImageTable
from orchestrator.redaction import redact

if TYPE_CHECKING:
    from torch import Tensor

    Preprocess = Callable[[Path | bytes, str], Tensor]
    """Pixels uint8 [3, S, S] of a file or its bytes, with its name for messages; raises DatasetError."""

AHEAD = 2
"""Chunks that are ready or under way beside the one that is computed."""


@dataclass(frozen=True)
class Read:
    """One image as it came.

    Attributes:
        index: its place in the list.
        name: of it.
        pixels: uint8 [3, S, S]; None with an error.
        error: why there are none.
    """

    index: int
    name: str
    pixels: Tensor | None
    error: str | None = None


def read_ahead(chunks: Iterable[Chunk], preprocess: Preprocess, *, threads: int) -> Iterator[list[Read]]:
    """The images of each chunk, in order.

    One thread reads tables and hands out work, ``threads`` others fetch files and decode. At most
    ``AHEAD + 2`` chunks are in memory.
    """
    tables = Tables()
    with ThreadPoolExecutor(threads) as pool:

        def start(chunk: Chunk) -> list[Future[Read]]:
            encoded = tables.read(chunk.refs)
            return [
                pool.submit(read, chunk.start + place, ref.name, ref, preprocess, given)
                for place, (ref, given) in enumerate(zip(chunk.refs, encoded, strict=True))
            ]

        for started in ahead(start, chunks, threads=1, reach=AHEAD):
            yield [future.result() for future in started]


def read_chunk(chunk: Chunk, names: Sequence[str], preprocess: Preprocess, tables: Tables) -> Iterator[Read]:
    """The images of one chunk by this thread alone; ``names`` in place of their own."""
    encoded = tables.read(chunk.refs)
    for place, (ref, name, given) in enumerate(zip(chunk.refs, names, encoded, strict=True)):
        yield read(chunk.start + place, name, ref, preprocess, given)


def read(index: int, name: str, ref: Ref, preprocess: Preprocess, given: bytes | Exception | None) -> Read:
    """One image, whatever it is like.

    Args:
        index: its place in the list.
        name: for its row.
        ref: where it is.
        preprocess: makes pixels.
        given: of a row of a table what is in it, or why it cannot be read.
    """
    try:
        if ref.row is None:
            source: Path | bytes = ref.read()
        elif isinstance(given, Exception):
            raise given
        elif given is None:
            return Read(index, name, None, f"{name} holds no image")
        else:
            source = given
        return Read(index, name, preprocess(source, name))
    except (DatasetError, ConfigurationError) as error:
        return Read(index, name, None, redact(error.problem))
    except OSError as error:
        said = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
        return Read(index, name, None, f"{name} cannot be read: {redact(said)}")


class Tables:
    """The table that is being read."""

    def __init__(self) -> None:
        self._open: tuple[Ref, ImageTable] | None = None

    def read(self, refs: Sequence[Ref]) -> list[bytes | Exception | None]:
        """What is in the rows among ``refs``; None for files."""
        found: list[bytes | Exception | None] = []
        for table, rows in groupby(refs, lambda ref: None if ref.row is None else (ref.root, ref.path)):
            wanted = list(rows)
            found += [None] * len(wanted) if table is None else self._rows(wanted)
        return found

    def _rows(self, refs: Sequence[Ref]) -> Sequence[bytes | Exception | None]:
        first, start = refs[0], refs[0].row
        assert start is not None
        assert [ref.row for ref in refs] == list(range(start, start + len(refs))), "rows follow each other"
        try:
            if self._open is None or self._open[0] != Ref(first.root, first.path):
                self._open = (
                    Ref(first.root, first.path),
                    ImageTable(first.root, first.path, first.column),
                )
            return self._open[1].read(start, len(refs))
        except (OSError, ConfigurationError) as error:
            return [error] * len(refs)
