"""Where the artefacts of a server are. No torch here: bad places are refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmap_model.errors import ConfigurationError
from mmap_model.inference.artefact import Artefact


def named(places: Sequence[str]) -> dict[str, Path]:
    """Folders of artefacts by name, of ``FOLDER`` (its last part is the name) or ``NAME=FOLDER``.

    Raises:
        ConfigurationError: no artefact, no name, or one name twice.
        CheckpointError: a folder without a readable description.
    """
    found: dict[str, Path] = {}
    for place in places:
        name, is_named, folder = place.partition("=")
        if not is_named or Path(place).exists():
            name, folder = Path(place).resolve().name, place
        if not name or not folder:
            raise ConfigurationError(f"{place!r} has no name", where="ARTEFACT", fix="use NAME=FOLDER")
        if name in found:
            raise ConfigurationError(
                f"two artefacts are called {name!r}", where="ARTEFACT", fix="give names: NAME=FOLDER"
            )
        found[name] = Path(folder)
        Artefact.describe(folder)
    if not found:
        raise ConfigurationError("there is no artefact", where="ARTEFACT", fix="give a folder of an artefact")
    return found
