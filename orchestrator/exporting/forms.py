"""Formats beyond those of ``mmap_model``, by name."""

from __future__ import annotations

from collections.abc import Mapping

from mmap_model.errors import ConfigurationError, nearest
from orchestrator.exporting.hub_form import HubWrapping
from orchestrator.exporting.mlflow_form import MlflowWrapping
from orchestrator.exporting.wrapping import Wrapping

WRAPPINGS: Mapping[str, Wrapping] = {found.name: found for found in (MlflowWrapping(), HubWrapping())}


def wrapping_of(name: str) -> Wrapping | None:
    """The format of that name, None if it is one of ``mmap_model``.

    Raises:
        ConfigurationError: there is none.
    """
    from mmap_model.inference.formats import FORMATS

    if name not in WRAPPINGS and name not in FORMATS:
        raise ConfigurationError(
            f"unknown format {name!r}", where="--format", fix=nearest(name, [*FORMATS, *WRAPPINGS])
        )
    return WRAPPINGS.get(name)
