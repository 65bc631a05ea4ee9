"""One forward for images of many requests: whatever has arrived, tasks mixed, up to a number and a time.

Legend: B images, C classes (the most of any task).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from mmap_model.inference.classifier import Classifier


@dataclass(frozen=True)
class Ranked:
    """The best classes of an image: places in its task's list, the most probable first."""

    classes: Sequence[int]
    probabilities: Sequence[float]


@dataclass(frozen=True)
class _Waiting:
    pixels: Tensor
    task: int
    top: int
    arrived: float
    answer: asyncio.Future[Ranked]


class Batcher:
    """Collects images and classifies them together; of one event loop, with ``run`` as a task of it."""

    def __init__(
        self,
        classifier: Classifier,
        thread: ThreadPoolExecutor,
        *,
        most: int,
        wait: float,
        seen: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        """See ``RequestLimits``.

        Args:
            classifier: of all images.
            thread: where it computes.
            most: images of one forward.
            wait: for how long an image waits for others, seconds.
            seen: told the images and the seconds of every forward.
        """
        self._classifier, self._thread = classifier, thread
        self._most, self._wait, self._seen = most, wait, seen
        self._waiting: deque[_Waiting] = deque()
        self._more = asyncio.Event()

    async def rank(self, pixels: Tensor, task: int, top: int) -> Ranked:
        """The ``top`` best classes of an image, uint8 [3, S, S], among those of its task."""
        loop = asyncio.get_running_loop()
        item = _Waiting(pixels, task, top, loop.time(), loop.create_future())
        self._waiting.append(item)
        self._more.set()
        return await item.answer

    async def run(self) -> None:
        """Classify what arrives until cancelled. A forward that fails fails its images, no others."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            if not batch:
                continue
            start = loop.time()
            try:
                rows = await loop.run_in_executor(self._thread, rank_batch, self._classifier, batch)
            except Exception as error:
                for item in batch:
                    if not item.answer.done():
                        item.answer.set_exception(error)
                continue
            self._seen(len(batch), loop.time() - start)
            for item, row in zip(batch, rows, strict=True):
                if not item.answer.done():
                    item.answer.set_result(row)

    async def _collect(self) -> list[_Waiting]:
        """What is classified next; empty if all who asked have gone."""
        while not self._waiting:
            self._more.clear()
            await self._more.wait()
        loop = asyncio.get_running_loop()
        until = self._waiting[0].arrived + self._wait
        while len(self._waiting) < self._most and loop.time() < until:
            self._more.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._more.wait()
            except TimeoutError:
                break
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        return [item for item in batch if not item.answer.done()]


def rank_batch(classifier: Classifier, batch: Sequence[_Waiting]) -> list[Ranked]:
    """The best classes of each image by one forward."""
    pixels = torch.stack([item.pixels for item in batch])
    tasks = torch.tensor([item.task for item in batch])
    logits = classifier.logits(pixels, tasks)
    sizes = [len(task.classes) for task in classifier.artefact.tasks]
    tops = [min(item.top, sizes[item.task]) for item in batch]
    # By logits: classes beyond a task's are -inf and last, whereas far ones have a probability of 0 too.
    classes = logits.topk(max(tops), dim=-1).indices
    probabilities = logits.softmax(-1).gather(1, classes)
    return [
        Ranked(row[:top], shares[:top])
        for row, shares, top in zip(classes.tolist(), probabilities.tolist(), tops, strict=True)
    ]
