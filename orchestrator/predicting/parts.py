"""Results that are committed part by part, so that a run that was killed goes on where it was.

``OUT.parts/run.json`` says what the run is about; ``OUT.parts/000012.parquet`` are the rows of its 13th part.
Both appear whole. When all parts are there they are joined into ``OUT``, and the folder goes.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from mmap_model.errors import ConfigurationError
from orchestrator.ledger.storage import StorageError
from orchestrator.predicting.output import Output
from orchestrator.predicting.rows import INDEX, schema

RUN = "run.json"
_PART = re.compile(r"(\d{6,})\.parquet")

WORDS = {
    "artefact": "another artefact",
    "count": "another number of images",
    "images": "another list of images",
    "task": "another --task",
    "classes": "other --classes",
    "top": "another --top",
    "precision": "another --precision",
    "part": "another --part",
    "format": "another release of this software",
}
"""What a run is about, by the keys of ``run.json``, as an error says it."""


@dataclass(frozen=True)
class Tally:
    """Rows of a result, and those with an error."""

    rows: int
    errors: int


class Parts:
    """The parts of one run; a context, for the time that this process works on them.

    Raises:
        ConfigurationError: on entering, that another process of this machine works on them.
    """

    def __init__(self, output: Output, run: Mapping[str, Any]) -> None:
        """See ``Output``.

        Args:
            output: the result.
            run: what it is about; keys are those of ``WORDS``, with ``count`` images in parts of ``part``.
        """
        self._output, self._store, self._run = output, output.parts, dict(run)
        self._part: int = run["part"]
        self._count: int = run["count"]
        self._fresh = False

    def __enter__(self) -> Self:
        if self._output.lock is not None:
            self._lock = self._output.lock.open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._lock.close()
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    return self  # a file system without locks
                raise ConfigurationError(
                    f"{self._output.shown} is being written by another process",
                    where="--out",
                    fix="wait for its end, or give another file",
                ) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._output.lock is not None and not self._lock.closed:
            self._output.lock.unlink(missing_ok=True)
            self._lock.close()

    def finished(self) -> bool:
        """Whether the result is there, of this very run.

        Raises:
            ConfigurationError: a file of something else is in its place.
        """
        if not self._output.exists():
            return False
        origin = self._output.origin() or {}
        if not isinstance(origin.get("run"), dict):
            raise ConfigurationError(
                f"{self._output.shown} exists and was not written by this command",
                where="--out",
                fix="give another file, or --restart to replace it",
            )
        self._same(origin["run"], "holds the result of")
        return True

    def begin(self, *, restart: bool) -> frozenset[int]:
        """Parts that are committed already.

        Args:
            restart: forget them, and whatever they are of.

        Raises:
            ConfigurationError: they are of another run.
        """
        numbers = (_PART.fullmatch(name) for name in ([] if restart else self._store.names("")))
        done = frozenset(int(number[1]) for number in numbers if number is not None)
        found = self._store.read(RUN) if done else None
        if found is None:
            self._fresh = True
            return frozenset()
        self._same(json.loads(found), "was begun with")
        return done

    def images(self, parts: Iterable[int]) -> int:
        """How many images some parts have."""
        return sum(self._size(number) for number in parts)

    def commit(self, tables: Iterable[Any], advance: Callable[[int], None]) -> None:
        """Keep rows, of whole parts each as soon as all of its rows have come.

        Args:
            tables: rows with their index, in any order.
            advance: told how many more rows have come.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        waiting: dict[int, list[Any]] = {}
        for table in tables:
            numbers = pc.divide(table.column(INDEX), self._part)
            for number in pc.unique(numbers).to_pylist():
                waiting.setdefault(number, []).append(table.filter(pc.equal(numbers, number)))
                if sum(map(len, waiting[number])) == self._size(number):
                    whole = pa.concat_tables(waiting.pop(number)).sort_by(INDEX)
                    stream = io.BytesIO()
                    pq.write_table(whole, stream, compression="zstd")
                    self._first()
                    self._store.write(_name(number), stream.getvalue())
            advance(len(table))
        assert not waiting, f"rows of parts {sorted(waiting)} are missing"

    def join(self, origin: Mapping[str, Any]) -> Tally:
        """Make the result of all parts and remove them; what it says of itself is ``origin`` and the run."""
        # Counted first: the result says it in what comes before its rows.
        errors = sum(_errors(table) for table in self._tables(["error"]))
        columns = schema(confidence=self._run["task"] is None)
        rows = (table.select(columns.names) for table in self._tables())
        self._output.write(rows, columns, {**origin, "errors": errors, "run": self._run})
        self._store.delete("")
        return Tally(self._count, errors)

    def clean(self) -> None:
        """Remove parts that were joined already."""
        self._store.delete("")

    def errors(self) -> int:
        """How many images of a finished result could not be read, as it says itself."""
        return int((self._output.origin() or {}).get("errors", 0))

    def _first(self) -> None:
        """Say what the run is about, before its first part: a run that commits nothing binds nobody."""
        if self._fresh:
            for name in self._store.names(""):
                self._store.delete(name)
            self._store.write(RUN, json.dumps(self._run, indent=1).encode())
            self._fresh = False

    def _tables(self, columns: list[str] | None = None) -> Iterator[Any]:
        import pyarrow.parquet as pq

        for number in range(-(-self._count // self._part)):
            data = self._store.read(_name(number))
            if data is None:
                raise StorageError(
                    f"part {number} of {self._output.shown} is gone: another process removed it",
                    where="--out",
                    fix="run the command again",
                )
            yield pq.read_table(io.BytesIO(data), columns=columns)

    def _size(self, number: int) -> int:
        return min(self._part, self._count - number * self._part)

    def _same(self, other: Mapping[str, Any], verb: str) -> None:
        for key, words in WORDS.items():
            if other.get(key) != self._run[key]:
                short = key in ("task", "top", "precision", "part", "count")
                values = f" ({other.get(key)}, now {self._run[key]})" if short else ""
                raise ConfigurationError(
                    f"{self._output.shown} {verb} {words}{values}",
                    where="--out",
                    fix="give another file, or --restart to start over",
                )


def _name(number: int) -> str:
    return f"{number:06}.parquet"


def _errors(table: Any) -> int:
    column = table.column("error")
    return int(len(column) - column.null_count)
