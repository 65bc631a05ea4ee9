"""Where the artefacts of a server are. No torch here: bad places are refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmap_model.errors import ConfigurationError
from mmap_model.inference.artefact import Artefact
from orchestrator.predicting.fetching import fetched


@contextmanager
def fetched_places(places: Sequence[str]) -> Iterator[Mapping[str, Path]]:
    """Folders of artefacts by name; of URIs copies that are there while the context lasts.

    Args:
        places: ``PLACE`` (its last part is the name) or ``NAME=PLACE``, each a folder or a URI.

    Raises:
        ConfigurationError: no artefact, no name, or one name twice.
        CheckpointError: a place without a readable description.
    """
    with ExitStack() as stack:
        folders = {name: stack.enter_context(fetched(place)) for name, place in named(places).items()}
        for folder in folders.values():
            Artefact.describe(folder)
        yield folders


def named(places: Sequence[str]) -> dict[str, str]:
    """The places by name. Raises ConfigurationError: none, no name, or one name twice."""
    found: dict[str, str] = {}
    for place in places:
        name, is_named, folder = place.partition("=")
        if not is_named or "/" in name or Path(place).exists():
            name, folder = Path(place).resolve().name, place
        if not name or not folder:
            raise ConfigurationError(f"{place!r} has no name", where="ARTEFACT", fix="use NAME=FOLDER")
        if name in found:
            raise ConfigurationError(
                f"two artefacts are called {name!r}", where="ARTEFACT", fix="give names: NAME=FOLDER"
            )
        found[name] = folder
    if not found:
        raise ConfigurationError("there is no artefact", where="ARTEFACT", fix="give a folder of an artefact")
    return found
