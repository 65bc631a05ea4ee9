"""Where the artefacts of a server are. No torch here: bad paths are refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmap_model.errors import ConfigurationError
from mmap_model.inference.artefact import Artefact
from orchestrator.predicting.fetching import fetched


@contextmanager
def fetched_paths(paths: Sequence[str]) -> Iterator[Mapping[str, Path]]:
    """Folders of artefacts by name; of URIs copies that are there while the context lasts.

    Args:
        paths: ``PATH`` (its last part is the name) or ``NAME=PATH``, each a folder or a URI.

    Raises:
        ConfigurationError: no artefact, no name, or one name twice.
        CheckpointError: a path without a readable description.
    """
    with ExitStack() as stack:
        folders = {name: stack.enter_context(fetched(path)) for name, path in paths_by_name(paths).items()}
        for folder in folders.values():
            Artefact.describe(folder)
        yield folders


def paths_by_name(paths: Sequence[str]) -> dict[str, str]:
    """The paths by name. Raises ConfigurationError: none, no name, or one name twice."""
    found: dict[str, str] = {}
    for path in paths:
        name, is_named, folder = path.partition("=")
        if not is_named or "/" in name or Path(path).exists():
            name, folder = Path(path).resolve().name, path
        if not name or not folder:
            raise ConfigurationError(f"{path!r} has no name", where="ARTEFACT", fix="use NAME=FOLDER")
        if name in found:
            raise ConfigurationError(
                f"two artefacts are called {name!r}", where="ARTEFACT", fix="give names: NAME=FOLDER"
            )
        found[name] = folder
    if not found:
        raise ConfigurationError("there is no artefact", where="ARTEFACT", fix="give a folder of an artefact")
    return found
