"""An artefact as a folder of this machine, wherever it lies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmap_model.errors import CheckpointError
from mmap_model.paths import expanded
from orchestrator.predicting.refs import is_uri, located, shown_path, split_uri
from orchestrator.redaction import redact


@contextmanager
def fetched(place: str) -> Iterator[Path]:
    """The folder of an artefact; of a URI a copy that is there while the context lasts.

    Raises:
        CheckpointError: nothing can be read there.
    """
    if not is_uri(place):
        yield expanded(place.removeprefix("file://"))
        return
    from pyarrow import fs

    root, path = split_uri(place)
    system, source = located(root, path)
    with tempfile.TemporaryDirectory(prefix="artefact-") as folder:
        try:
            fs.copy_files(
                source, folder, source_filesystem=system, destination_filesystem=fs.LocalFileSystem()
            )
        except OSError as error:
            raise CheckpointError(
                f"cannot be read: {redact(str(error)).splitlines()[0]}",
                where=shown_path(root, path),
                fix="check its name, and the credentials in the environment",
            ) from error
        yield Path(folder)
