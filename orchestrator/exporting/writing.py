"""A chosen cell as an artefact."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmap_model.architecture import SHIPPED
from orchestrator.exporting.measured import task_accuracies, validation_numbers
from orchestrator.work.provenance import provenance

if TYPE_CHECKING:
    from mmap_model.inference.artefact import Artefact, ArtefactSource
    from orchestrator.exporting.winner import Winner
    from orchestrator.exporting.wrapping import Wrapping

EMBEDDED_LICENCE = "The CLIP comes with mmap-orchestrator, under the same licence (Apache-2.0)."
OTHER_WEIGHTS = "The CLIP's weights ({}) are under the licence of whoever published them."


def write(winner: Winner, folder: Path, kind: str) -> Artefact:
    """Write the artefact. Needs the data too: the features of training images tell tasks apart.

    Args:
        winner: what to export.
        folder: to make; it must not exist, or be empty.
        kind: the format.

    Raises:
        InputError: no such format, a library that is missing, a model that the format cannot hold (says why),
            a folder that holds something, or data, weights or records that are not there.
    """
    from orchestrator.exporting.forms import wrapping_of

    wrapping = wrapping_of(kind)
    if wrapping is not None:
        return _wrap(winner, folder, wrapping)
    (artefact,) = _export(winner, {kind: folder})
    return artefact


def _wrap(winner: Winner, folder: Path, wrapping: Wrapping) -> Artefact:
    """Write the artefacts that it holds, and the format around them."""
    with tempfile.TemporaryDirectory(prefix="export-") as temporary:
        made = Path(temporary)
        found = _export(winner, {kind: made / kind for kind in wrapping.holds})
        parts = dict(zip(wrapping.holds, found, strict=True))
        artefact = wrapping.described(parts)
        return artefact.write(folder, lambda target: wrapping.fill(winner, parts, made, target))


def _export(winner: Winner, folders: Mapping[str, Path]) -> list[Artefact]:
    """An artefact for each kind, in its folder."""
    from mmap_model.inference.exporting import export, require_format
    from orchestrator.exporting.task_means import task_means

    for kind in folders:
        require_format(winner.trained, kind)
    means, accuracy = task_means(winner)
    metrics = winner.chosen.record["metrics"]
    software = provenance()
    return [
        export(
            winner.trained,
            folder,
            kind,
            source=_source(winner),
            validation_accuracy=task_accuracies(metrics) if metrics.get("accuracy") is not None else {},
            task_features=means,
            task_accuracy=accuracy,
            licence=licence(winner),
            versions={
                "mmap-orchestrator": software["versions"].get("mmap-orchestrator"),
                "commit": software["commit"],
            },
        )
        for kind, folder in folders.items()
    ]


def licence(winner: Winner) -> str:
    """A note on the CLIP's weights, which an artefact may hold."""
    spec = winner.stored.study.backbone
    if spec.model in SHIPPED:
        return EMBEDDED_LICENCE
    return OTHER_WEIGHTS.format(" ".join(filter(None, (spec.model, spec.pretrained))))


def _source(winner: Winner) -> ArtefactSource:
    from mmap_model.inference.artefact import ArtefactSource

    chosen = winner.chosen
    return ArtefactSource(
        study=winner.stored.store.name,
        trial=chosen.trial,
        cells=(chosen.key,),
        seed=chosen.seed,
        split=chosen.split,
        reason=chosen.reason,
        precision=winner.cell.precision,
        validation=validation_numbers(chosen.record["metrics"]),
        mean=chosen.over_seeds or {},
    )
