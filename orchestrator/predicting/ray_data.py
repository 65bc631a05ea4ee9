"""A run over a cluster with Ray Data: tasks read and decode, actors label.

Blocks hold where images are, then their pixels, then what is said of them. With GPUs any core of the cluster
reads, and pixels pass through Ray's object store, which bounds how far reading is ahead. With CPUs alone Ray
Data makes one step of both, so that every core reads what it labels. A worker that dies is replaced and its
blocks are made again.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmap_model.errors import InputError
from orchestrator.predicting.cluster import Cluster
from orchestrator.predicting.labelling import Question
from orchestrator.predicting.listing import Chunk, Listing
from orchestrator.predicting.loading import LoadingOptions, load
from orchestrator.predicting.reading import Read, Tables, read_chunk
from orchestrator.predicting.refs import Ref
from orchestrator.predicting.tables import ImageTable
from orchestrator.slots import environment
from orchestrator.slots.cluster import start_ray
from orchestrator.study.machine import this_machine

if TYPE_CHECKING:
    from ray import ObjectRef
    from torch import Tensor

    from mmap_model.inference.artefact import Artefact
    from mmap_model.preprocessing import Resize

FILES = 256
"""Files that one task reads. Of tables a task reads a row group, as far as its rows are wanted."""

REFUSED = "refused"
"""Column of what a worker gives in place of rows: why it cannot work, pickled."""

OBJECT_STORE = 2**30
"""Bytes of a local object store, for pixels between reading and labelling."""


def label_on_ray(
    listing: Listing,
    folder: Path,
    artefact: Artefact,
    question: Question,
    options: LoadingOptions,
    *,
    done: Collection[int],
    cluster: Cluster,
) -> Iterator[Any]:
    """Rows with their index as ``pyarrow.Table``, in any order; see ``label_here``.

    Raises:
        InputError: the artefact cannot be loaded by the workers, or cannot do what is asked.
    """
    if cluster.address is not None:
        os.environ["RAY_ADDRESS"] = cluster.address
    environment.prepare()
    import ray

    machine, gpu = this_machine(), options.device.startswith("cuda")
    started = start_ray(
        slots=1, cpus=machine.cores, gpus=machine.gpus if gpu else 0, object_store=OBJECT_STORE
    )
    try:
        _quiet()
        there = ray.cluster_resources()
        cores = there.get("CPU", 1) if environment.joins_cluster() else machine.cores
        workers = cluster.workers or max(1, int(there.get("GPU", 1) if gpu else cores))
        pixels = artefact.preprocessing
        blocks = ray.data.from_arrow_refs(
            [ray.put(_refs(block)) for block in _blocks(listing, options, done)]
        )
        # By its parts: each worker unpacks it, so that its folder need not be on every node.
        files = ray.put({name: (folder / name).read_bytes() for name in _files(artefact)})
        labelled = blocks.map_batches(
            functools.partial(_read, batch=options.batch, side=pixels.size, resize=pixels.resize),
            batch_format="pyarrow",
            num_cpus=1,
        ).map_batches(
            LabellingWorker,
            batch_size=options.batch,
            batch_format="pyarrow",
            fn_constructor_args=(files, question, options),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
            num_cpus=1,
            num_gpus=1 if gpu else None,
        )
        for table in labelled.iter_batches(batch_size=None, batch_format="pyarrow"):
            if REFUSED in table.column_names:
                raise pickle.loads(table.column(REFUSED)[0].as_py())
            yield table
    finally:
        if started:
            ray.shutdown()


class LabellingWorker:
    """An actor that labels; the artefact is loaded once."""

    def __init__(
        self, files: ObjectRef[Mapping[str, bytes]], question: Question, options: LoadingOptions
    ) -> None:
        """What cannot be loaded is said in place of rows: Ray would try again, and lose the reason."""
        import ray

        self._refused: InputError | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="artefact-")
        for name, data in ray.get(files).items():
            path = Path(self._folder.name) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            self._labeller = load(Path(self._folder.name), question, options)
        except InputError as error:
            self._refused = error

    def __call__(self, table: Any) -> Any:
        """Rows of images that were read."""
        import numpy as np
        import pyarrow as pa
        import torch

        if self._refused is not None:
            return pa.table({REFUSED: [pickle.dumps(self._refused)]})
        images = []
        for row in table.to_pylist():
            pixels = None
            if row["pixels"] is not None:
                side = row["side"]
                flat = np.frombuffer(row["pixels"], np.uint8).reshape(3, side, side)
                pixels = torch.from_numpy(flat.copy())  # the buffer is Ray's, and not to be written
            images.append(Read(row["index"], row["image"], pixels, row["error"]))
        (labelled,) = self._labeller.tables([images])
        return labelled


def _blocks(listing: Listing, options: LoadingOptions, done: Collection[int]) -> Iterator[list[Chunk]]:
    """Chunks that one task reads: some files, or rows of one row group, which is read from its beginning."""
    block: list[Chunk] = []
    before: object = None
    table: tuple[Ref, ImageTable] | None = None
    for chunk in listing.chunks(options.batch, options.part, done):
        first = chunk.refs[0]
        group: object = None
        if first.row is not None:
            file = Ref(first.root, first.path)
            if table is None or table[0] != file:
                table = file, ImageTable(first.root, first.path, first.column)
            group = file, table[1].group_of(first.row)
        full = group is None and sum(len(one.refs) for one in block) >= FILES
        if block and (group != before or full):
            yield block
            block = []
        block.append(chunk)
        before = group
    if block:
        yield block


def _refs(block: list[Chunk]) -> Any:
    """A table of where images are; names of files need not be UTF-8."""
    import pyarrow as pa

    rows = [
        (chunk.start + place, ref.name, ref.absolute())
        for chunk in block
        for place, ref in enumerate(chunk.refs)
    ]
    return pa.table(
        {
            "index": pa.array([index for index, _, _ in rows], pa.int64()),
            "image": pa.array([name for _, name, _ in rows], pa.string()),
            "root": pa.array([ref.root for _, _, ref in rows], pa.string()),
            "path": pa.array([os.fsencode(ref.path) for _, _, ref in rows], pa.binary()),
            "row": pa.array([ref.row for _, _, ref in rows], pa.int64()),
            "column": pa.array([ref.column for _, _, ref in rows], pa.string()),
        }
    )


def _read(table: Any, batch: int, side: int, resize: Resize) -> Iterator[Any]:
    """Pixels of the images of a block, some at a time."""
    import pyarrow as pa

    from mmap_model.inference.images import pixels_of

    def preprocess(image: Path | bytes, name: str) -> Tensor:
        return pixels_of(image, side, resize, name)

    rows, tables = table.to_pylist(), Tables()
    refs = [Ref(row["root"], os.fsdecode(row["path"]), row["row"], row["column"]) for row in rows]
    start = 0
    while start < len(rows):
        first = rows[start]["index"]
        end = start + 1  # parts that are done leave gaps
        while end < len(rows) and end - start < batch and rows[end]["index"] == first + end - start:
            end += 1
        names = [row["image"] for row in rows[start:end]]
        chunk = Chunk(first, tuple(refs[start:end]))
        read = list(read_chunk(chunk, names, preprocess, tables))
        yield pa.table(
            {
                "index": pa.array([image.index for image in read], pa.int64()),
                "image": pa.array([image.name for image in read], pa.string()),
                "side": pa.array([side] * len(read), pa.int32()),
                "pixels": pa.array(
                    [None if image.pixels is None else image.pixels.numpy().tobytes() for image in read],
                    pa.large_binary(),
                ),
                "error": pa.array([image.error for image in read], pa.string()),
            }
        )
        start = end


def _files(artefact: Artefact) -> list[str]:
    from mmap_model.inference.artefact import DESCRIPTION

    return [DESCRIPTION, *artefact.files]


def _quiet() -> None:
    """Ray Data without a progress bar of its own and without news of its plans."""
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.ERROR)
