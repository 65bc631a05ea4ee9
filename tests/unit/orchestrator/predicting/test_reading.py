"""Images are read ahead, in order, and no more of them than a few chunks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mmap_model.errors import DatasetError
from orchestrator.predicting.listing import Chunk
from orchestrator.predicting.reading import AHEAD, read_ahead
from orchestrator.predicting.refs import Ref


def test_images_come_in_order_and_few_chunks_are_ahead() -> None:
    taken: list[int] = []

    def chunks() -> Iterator[Chunk]:
        for number in range(100):
            taken.append(number)
            yield Chunk(number * 3, tuple(Ref("", f"{number * 3 + i}.jpg") for i in range(3)))

    def preprocess(image: Path | bytes, name: str) -> Tensor:
        if name == "7.jpg":
            raise DatasetError(f"{name} cannot be decoded")
        return torch.tensor(int(Path(name).stem))

    for number, read in enumerate(read_ahead(chunks(), preprocess, threads=3)):
        assert len(taken) <= number + AHEAD + 2
        assert [image.index for image in read] == [number * 3 + i for i in range(3)]
        for image in read:
            if image.index == 7:
                assert image.pixels is None and image.error == "7.jpg cannot be decoded"
            else:
                assert image.pixels is not None and int(image.pixels) == image.index
    assert len(taken) == 100


def test_images_of_a_chunk_are_decoded_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=60)

    def preprocess(image: Path | bytes, name: str) -> Tensor:
        meeting.wait()
        return torch.zeros(1)

    chunk = Chunk(0, tuple(Ref("", f"{i}.jpg") for i in range(3)))
    ((*read,),) = read_ahead([chunk], preprocess, threads=3)
    assert len(read) == 3
