"""From encoded images to pixels, in threads; the size that a header gives is looked at first."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus

from torch import Tensor

from mmap_model.data.formats import DAMAGE, TooManyPixels, open_encoded
from mmap_model.errors import DatasetError
from mmap_model.inference.classifier import Classifier
from orchestrator.serving.refusal import Refusal, too_large
from orchestrator.study.machine import this_machine

AT_ONCE = 2
"""Images of the largest size that may be decoded at a time: each takes eight bytes for a pixel."""


class Pictures:
    """Decodes as many images at a time as there are cores, and no more than fit into memory."""

    def __init__(self, pixels: int) -> None:
        """See ``Limits.pixels``."""
        self._most, self._decoding = pixels, 0
        self._less = asyncio.Condition()
        self.threads = ThreadPoolExecutor(this_machine().cores, thread_name_prefix="decode")

    async def pixels(self, classifier: Classifier, encoded: bytes | None, name: str) -> Tensor:
        """What a classifier sees of an image, uint8 [3, S, S].

        Raises:
            Refusal: 400 it cannot be decoded, 413 it has too many pixels.
        """
        if encoded is None:
            raise _undecodable(f"{name} is not base64", "send the file's bytes in base64, without a prefix")
        loop = asyncio.get_running_loop()
        size = await loop.run_in_executor(self.threads, _size, encoded)
        if size is None or size[0] * size[1] > self._most:
            found = f"{size[0]} × {size[1]} pixels" if size else "too many pixels"
            raise too_large(
                f"{name} has {found}; an image may have {self._most}",
                "scale it down",
                code="too_many_pixels",
            )
        async with self._room(size[0] * size[1]):
            return await loop.run_in_executor(self.threads, _decoded, classifier, encoded, name)

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)

    @asynccontextmanager
    async def _room(self, pixels: int) -> AsyncIterator[None]:
        async with self._less:
            await self._less.wait_for(lambda: self._decoding + pixels <= AT_ONCE * self._most)
            self._decoding += pixels
        try:
            yield
        finally:
            async with self._less:
                self._decoding -= pixels
                self._less.notify_all()


def _decoded(classifier: Classifier, encoded: bytes, name: str) -> Tensor:
    try:
        return classifier.preprocess(encoded, name)
    except DatasetError as error:
        raise _undecodable(error.problem, error.fix) from None


def _size(encoded: bytes) -> tuple[int, int] | None:
    """(width, height) by the header; None for more than can ever be read, (0, 0) for what is no image."""
    try:
        with open_encoded(io.BytesIO(encoded)) as image:
            return image.size
    except TooManyPixels:
        return None
    except DAMAGE:  # said in words by what decodes it
        return 0, 0


def _undecodable(message: str, fix: str | None) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "undecodable_image", message, fix)
