"""What a server has taken in and not answered yet, within its limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.refusal import busy


class Admission:
    """Counts of one event loop.

    Attributes:
        limits: that it holds.
        requests: that are being read or answered.
        images: admitted, not answered.
        buffered: bytes of bodies.
        draining: no further request is taken.
    """

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.requests = self.images = self.buffered = 0
        self.draining = False

    def room(self) -> None:
        """Raise the refusal of a request that brings an image if there is no room for one."""
        if self.images >= self.limits.queue:
            raise busy(f"{self.images} images wait already")

    @contextmanager
    def admit(self, images: int) -> Iterator[None]:
        """Room for the images of a request until they are answered.

        Raises:
            Refusal: 429, there is none.
        """
        if self.images + images > self.limits.queue:
            raise busy(f"{self.images} images wait already, and the queue holds {self.limits.queue}")
        self.images += images
        try:
            yield
        finally:
            self.images -= images


class Buffered:
    """The bytes that one request holds; ``with`` gives them back."""

    def __init__(self, admission: Admission) -> None:
        self._admission, self.bytes = admission, 0

    def add(self, count: int) -> None:
        """Count further bytes. Raises Refusal (429) if the server holds too many of all requests together."""
        self.bytes += count
        self._admission.buffered += count
        if self._admission.buffered > self._admission.limits.buffered:
            raise busy(f"the server holds {self._admission.limits.buffered} bytes of requests already")

    def __enter__(self) -> Buffered:
        self._admission.requests += 1
        return self

    def release(self) -> None:
        """Count none of them any more."""
        self._admission.buffered -= self.bytes
        self.bytes = 0

    def __exit__(self, *_: object) -> None:
        self._admission.requests -= 1
        self.release()
