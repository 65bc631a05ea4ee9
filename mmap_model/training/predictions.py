"""Per-image predictions as a Parquet file, so that a later metric needs no retraining."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmap_model.training.metrics import TaskPredictions

SCHEMA = pa.schema(
    [
        ("task", pa.dictionary(pa.int32(), pa.string())),
        ("sample", pa.string()),
        ("label", pa.int32()),
        ("top_classes", pa.list_(pa.int32())),
        ("top_probabilities", pa.list_(pa.float32())),
        ("nll", pa.float32()),
    ]
)


def write_predictions(tasks: Mapping[str, tuple[Sequence[str], TaskPredictions]]) -> bytes:
    """Sample ids and predictions by task, as Parquet with the columns of `SCHEMA`.

    ``top_classes`` holds the most probable class ids, best first, five of them where there are as many.
    """
    batches = []
    for task, (samples, found) in tasks.items():
        count, kept = found.classes.shape
        offsets = pa.array(np.arange(0, (count + 1) * kept, kept, dtype=np.int32))
        columns = [
            pa.array([task] * count).dictionary_encode(),
            pa.array(samples, pa.string()),
            pa.array(found.labels, pa.int32()),
            pa.ListArray.from_arrays(offsets, pa.array(found.classes.ravel(), pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(found.probabilities.ravel().astype(np.float32))),
            pa.array(found.nll.astype(np.float32)),
        ]
        batches.append(pa.table(dict(zip(SCHEMA.names, columns, strict=True))).cast(SCHEMA))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(batches).unify_dictionaries(), sink, compression="zstd")
    return sink.getvalue()


def read_predictions(data: bytes) -> dict[str, tuple[list[str], TaskPredictions]]:
    """What `write_predictions` was given, in single precision."""
    table = pq.read_table(io.BytesIO(data))
    found = {}
    for task in dict.fromkeys(table["task"].to_pylist()):
        part = table.filter(pa.compute.equal(table["task"].cast(pa.string()), task))
        found[task] = (
            part["sample"].to_pylist(),
            TaskPredictions(
                part["label"].to_numpy().astype(np.int64),
                np.array(part["top_classes"].to_pylist(), np.int64),
                np.array(part["top_probabilities"].to_pylist(), np.float64),
                part["nll"].to_numpy().astype(np.float64),
            ),
        )
    return found
