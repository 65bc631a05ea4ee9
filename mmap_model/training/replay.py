"""A training step recorded once as a CUDA graph and replayed: the host starts one thing, not a thousand.

A step of one task on a fast card is a millisecond of arithmetic and tens of milliseconds of starting it
(``benchmarks/gpu``). A replay runs the kernels that were recorded, so it gives the numbers of an eager step.

Legend: R replicates, T tasks, B images per replicate, task and step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Differentiate = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Losses [R, T] of pixels, labels and active replicates; leaves gradients in the parameters."""

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Runs its argument once for the record; gives what repeats it and the tensor that then holds its result."""


@dataclass(frozen=True)
class StepKind:
    """What must be equal for one record to stand for two steps.

    Anything else that decides what a step does must lie in its tensors.

    Attributes:
        pixels, labels: shapes; pixels may be embeddings.
        active: whether there is a mask of replicates.
        trained: for each parameter whether it has a gradient.
        stage: of the training.
    """

    pixels: torch.Size
    labels: torch.Size
    active: bool
    trained: tuple[bool, ...]
    stage: int


class RecordedStep:
    """Losses and gradients of steps of one kind, by a record of the first.

    Args:
        kind: of the steps.
        differentiate: the step, which must ask nothing of the device and draw nothing; it ran before, so that
            what is computed once only is not part of the record.
        pixels, labels, active: of one step; others of the same kind follow.
        parameters: whose gradients it leaves.
        record: makes the record; CUDA's graphs by default.

    Raises:
        RuntimeError: it cannot be recorded, or memory ran out.
    """

    def __init__(
        self,
        kind: StepKind,
        differentiate: Differentiate,
        pixels: Tensor,
        labels: Tensor,
        active: Tensor | None,
        parameters: Sequence[nn.Parameter],
        record: Record | None = None,
    ) -> None:
        self.kind = kind
        self._given = [given.clone() for given in (pixels, labels, active) if given is not None]
        self._parameters = list(parameters)
        for parameter in self._parameters:
            parameter.grad = None  # so that the record makes tensors of its own for the gradients
        own_pixels, own_labels, *rest = self._given
        self._repeat, self._losses = (record or record_cuda_graph)(
            lambda: differentiate(own_pixels, own_labels, rest[0] if rest else None)
        )
        self._gradients = [parameter.grad for parameter in self._parameters]

    def take(self, pixels: Tensor, labels: Tensor, active: Tensor | None) -> Tensor:
        """Losses [R, T]; gradients are left in the parameters."""
        given = [tensor for tensor in (pixels, labels, active) if tensor is not None]
        for own, new in zip(self._given, given, strict=True):
            own.copy_(new)
        self._repeat()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._losses.clone()


def record_cuda_graph(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """`Record` by CUDA: what ``work`` starts on the device is noted down, in memory of its own, and not run.

    To be called `on_stream` of one that is not the default. Another thread may copy images to the device
    meanwhile: it is none of the record's business.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    failed: Exception | None = None
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            try:
                result = work()
            except Exception as error:  # what ends the recording then fails too, and says less
                failed = error
                raise
    except Exception as error:
        # A recording that failed leaves the random numbers of the process waiting for its end.
        fresh = torch.Generator(stream.device).manual_seed(torch.initial_seed())
        torch.cuda.default_generators[stream.device.index].graphsafe_set_state(fresh)
        raise RuntimeError(str(failed or error)) from error
    return graph.replay, result


@contextmanager
def on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Start work on ``stream``: after all that was started on the current one, before all that will be."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        current.wait_stream(stream)
