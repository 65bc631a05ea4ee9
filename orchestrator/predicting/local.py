"""A run in this process."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from orchestrator.predicting.labelling import Labeller
from orchestrator.predicting.listing import Listing
from orchestrator.predicting.reading import read_ahead


def label_here(
    listing: Listing,
    labeller: Labeller,
    *,
    batch: int,
    part: int,
    done: Collection[int] = (),
    threads: int,
) -> Iterator[Any]:
    """Rows with their index as ``pyarrow.Table``, in order, of all images but those of parts ``done``.

    Args:
        listing: of all images.
        labeller: what labels them.
        batch: images that are computed at once.
        part: images of a part; no batch has images of two.
        done: numbers of parts.
        threads: that read and decode.
    """
    chunks = listing.chunks(batch, part, done)
    return labeller.tables(read_ahead(chunks, labeller.classifier.preprocess, threads=threads))
