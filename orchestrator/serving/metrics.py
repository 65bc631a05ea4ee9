"""What a server tells Prometheus of itself."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from orchestrator.serving.admission import Admission

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)


class Metrics:
    """Counts of one application. Labels come from this software and its command line, never from clients."""

    def __init__(self, admission: Admission) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "orchestrator_requests", "Requests answered.", ("path", "code"), registry=registry
        )
        self.seconds = Histogram(
            "orchestrator_request_seconds",
            "From the headers of a request to the end of its response.",
            ("path",),
            registry=registry,
            buckets=_SECONDS,
        )
        self.images = Counter(
            "orchestrator_images", "Images answered.", ("model", "outcome"), registry=registry
        )
        self.batches = Histogram(
            "orchestrator_batch_images", "Images of a forward.", ("model",), registry=registry, buckets=_SIZES
        )
        self.forwards = Histogram(
            "orchestrator_forward_seconds",
            "Seconds of a forward.",
            ("model",),
            registry=registry,
            buckets=_SECONDS,
        )
        waiting = Gauge("orchestrator_queue_images", "Images admitted, not answered.", registry=registry)
        waiting.set_function(lambda: admission.images)
        running = Gauge("orchestrator_active_requests", "Requests being read or answered.", registry=registry)
        running.set_function(lambda: admission.requests)
        buffered = Gauge("orchestrator_buffered_bytes", "Bytes of requests that are held.", registry=registry)
        buffered.set_function(lambda: admission.buffered)

    def text(self) -> bytes:
        """In Prometheus's text format, ``CONTENT_TYPE``."""
        return generate_latest(self._registry)
