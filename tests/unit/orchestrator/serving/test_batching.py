"""Images of many requests share forwards, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from mmap_model.inference.classifier import Classifier
from orchestrator.serving.batching import Batcher, Ranked


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def images(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


async def ask(
    batcher: Batcher, pixels: torch.Tensor, tasks: Sequence[int], tops: Sequence[int]
) -> list[Ranked]:
    runner = asyncio.create_task(batcher.run())
    try:
        return await asyncio.gather(*map(batcher.rank, pixels, tasks, tops))
    finally:
        runner.cancel()


def test_every_image_gets_the_best_classes_of_its_own_task(
    classifiers: dict[str, Classifier], thread: ThreadPoolExecutor
) -> None:
    classifier, sizes = classifiers["winner"], []
    batcher = Batcher(classifier, thread, most=4, wait=10, seen=lambda size, _: sizes.append(size))
    pixels, tasks, tops = (
        images(12, classifier.image_size),
        [n % 3 for n in range(12)],
        [n % 6 + 1 for n in range(12)],
    )
    answers = asyncio.run(ask(batcher, pixels, tasks, tops))
    assert sizes == [4, 4, 4]
    for image, task, top, answer in zip(pixels, tasks, tops, answers, strict=True):
        count = len(classifier.classes(task))
        wanted = classifier.logits(image[None], task)[0, :count].softmax(-1).topk(min(top, count))
        assert list(answer.classes) == wanted.indices.tolist()
        assert list(answer.probabilities) == pytest.approx(wanted.values.tolist(), abs=1e-6)


def test_classes_that_a_task_does_not_have_are_never_named(
    classifiers: dict[str, Classifier], thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = classifiers["winner"]
    inf = torch.inf
    # Probabilities of 0 for a far class of the task, as for those that it does not have.
    monkeypatch.setattr(
        classifier, "logits", lambda *_: torch.tensor([[-300.0, 0.0, -inf, -inf, -inf]]), raising=False
    )
    batcher = Batcher(classifier, thread, most=1, wait=0)
    (answer,) = asyncio.run(ask(batcher, images(1, 16), [1], [5]))
    assert list(answer.classes) == [1, 0] and list(answer.probabilities) == [1.0, 0.0]


def test_images_that_arrive_during_a_forward_are_the_next_one(
    classifiers: dict[str, Classifier], thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, sizes = classifiers["winner"], []
    begun, go = threading.Event(), threading.Event()
    original = classifier.logits

    def held(*given: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return original(*given)

    monkeypatch.setattr(classifier, "logits", held, raising=False)
    batcher = Batcher(classifier, thread, most=8, wait=0, seen=lambda size, _: sizes.append(size))
    pixels = images(7, classifier.image_size)

    async def arrive() -> None:
        runner = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher.rank(pixels[0], 0, 1))
        await asyncio.to_thread(begun.wait, 60)
        others = [asyncio.create_task(batcher.rank(image, 1, 1)) for image in pixels[1:]]
        others.pop().cancel()
        await asyncio.sleep(0)  # all of them stand in the queue
        go.set()
        await asyncio.gather(first, *others)
        runner.cancel()

    asyncio.run(arrive())
    assert sizes == [1, 5]


def test_a_failed_forward_leaves_the_next_one_alone(
    classifiers: dict[str, Classifier], thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = classifiers["winner"]
    batcher = Batcher(classifier, thread, most=1, wait=0)
    pixels = images(2, classifier.image_size)
    original, calls = classifier.logits, []

    def once(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return original(*given)

    monkeypatch.setattr(classifier, "logits", once, raising=False)

    async def both() -> list[Any]:
        runner = asyncio.create_task(batcher.run())
        try:
            return await asyncio.gather(
                *(batcher.rank(image, 0, 1) for image in pixels), return_exceptions=True
            )
        finally:
            runner.cancel()

    failed, answered = asyncio.run(both())
    assert isinstance(failed, RuntimeError) and isinstance(answered, Ranked)
