"""What a server takes at most of its clients."""

from __future__ import annotations

from dataclasses import dataclass

from mmap_model.data.formats import MAX_PIXELS
from mmap_model.errors import require

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Bounds on requests, and on what is kept of all of them together.

    Attributes:
        bytes: of one request's body.
        buffered: of the bodies of all requests that are being read or answered, bytes.
        pixels: of one image, by its header.
        images: of one request.
        queue: images of all requests that are not answered yet.
        batch: images of one forward.
        wait: for how long a batch that is not full waits for more images, seconds.
        read: within which a request has to arrive, headers and body each, seconds.
        drain: for which a stopping server finishes what it has begun, seconds.
    """

    bytes: int = 32 * MEBIBYTE
    buffered: int = 256 * MEBIBYTE
    pixels: int = 50_000_000
    images: int = 64
    queue: int = 256
    batch: int = 32
    wait: float = 0.005
    read: float = 30.0
    drain: float = 25.0

    def __post_init__(self) -> None:
        for name in ("bytes", "pixels", "images", "batch"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "use 1 or more")
        require(self.pixels <= MAX_PIXELS, "pixels", self.pixels, f"use at most {MAX_PIXELS}")
        require(self.buffered >= self.bytes, "buffered", self.buffered, "use at least the bytes of a request")
        require(self.queue >= self.images, "queue", self.queue, "use at least the images of a request")
        require(self.wait >= 0, "wait", self.wait, "use 0 or more seconds")
        for name in ("read", "drain"):
            require(getattr(self, name) > 0, name, getattr(self, name), "use a positive number of seconds")
