"""What the executor needs of the science, as an interface, and the real thing behind it.

The interface is small so that ordering, resuming and recording can be tested without training anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Partition
from mmap_model.execution import Execution
from mmap_model.plain import from_plain

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.data import Dataset
    from mmap_model.data.dataset import DatasetSummary
    from mmap_model.training.embedding_memo import EmbeddingMemo
    from mmap_model.training.position import Position
    from orchestrator.work.inputs import Inputs

EngineReport = tuple[int, dict[str, dict[str, Any]]]
"""An epoch's number (1-based) and what it measured, by cell key."""


class BatchRun(Protocol):
    """One batch of cells in training. See ``mmap_model.training.FusedRun``."""

    @property
    def epoch(self) -> int: ...
    @property
    def active(self) -> Sequence[str]: ...
    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def position(self) -> Position | None:
        """Where it is within an epoch; None before the first and where that is not known."""
        ...

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[EngineReport]: ...
    def initial(self) -> EngineReport:
        """What the model measures before its first step, as epoch 0."""
        ...

    def state(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...
    def cancel(self, key: str) -> None: ...
    def finish(self) -> dict[str, dict[str, Any]]:
        """Per key ``{metrics, parameters, seconds, versions, files}``; ``files`` are bytes by name."""
        ...


class Engine(Protocol):
    """A dataset and a backbone, and what can be done with them."""

    @property
    def manifest(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def inputs(self) -> Inputs:
        """Both of them, with what tells where they differ from others."""
        ...

    @property
    def tasks(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def loads(self) -> Literal["backbone", "data"] | None:
        """What is being loaded at this moment."""
        ...

    def load(self) -> None:
        """Load backbone and data now rather than at the first need."""
        ...

    def start(self, cells: Sequence[Cell]) -> BatchRun: ...
    def is_interruption(self, error: Exception) -> bool:
        """Whether ``error`` says that ``should_stop`` ended an epoch."""
        ...

    def fuses(self, point: Point) -> bool:
        """Whether replicates of the point may be trained as one batch."""
        ...

    def fusable(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """Replicates as groups, in order, of which every cell gets in one batch what it gets alone."""
        ...

    def count(self, cell: Cell) -> int:
        """Exact number of trained parameters of one replicate."""
        ...

    def probe(self, point: Point) -> Configuration:
        """What has to be trained to learn the point's grouping."""
        ...

    def resolve(
        self, grouping: Grouping, gram: bytes | None, train_seed: int
    ) -> tuple[Partition, dict[str, Any]]:
        """The partition, and a JSON-able report of how it was found."""
        ...

    def score_test(
        self,
        cells: Sequence[Cell],
        files: Mapping[str, Mapping[str, bytes]],
        check: Callable[[], None],
    ) -> dict[str, dict[str, Any]]:
        """Per key ``{metrics, files}`` of saved prompts on the test images, or ``{error}`` where these give
        no numbers; ``check`` may raise to stop."""
        ...


class ModelEngine:
    """The engine of ``mmap_model``. Creating it loads nothing; keys need neither torch nor images.

    Args:
        dataset, backbone: ``DatasetSpec`` and ``BackboneSpec`` as dictionaries.
        device: a torch device.
        precision: of the backbone's weights: ``fp64`` loads doubles, everything else single precision.
        threads: of torch on the CPU; None leaves them as they are.
        cache_dir: where prepared data is kept.
        compute: ``Execution`` as a dictionary.
        gpu_share: of the GPU's memory that this process may take.
    """

    def __init__(
        self,
        dataset: dict[str, Any],
        backbone: dict[str, Any],
        *,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
        compute: dict[str, Any] | None = None,
        gpu_share: float = 1.0,
    ) -> None:
        from mmap_model.backbone_spec import BackboneSpec
        from mmap_model.data import DatasetSpec

        self._dataset_spec = from_plain(DatasetSpec, dataset, "dataset")
        self._backbone_spec = from_plain(BackboneSpec, backbone, "backbone")
        self._precision = precision
        self._threads = threads
        self._cache_dir = cache_dir
        self._execution = from_plain(Execution, compute or {}, "compute")
        self._gpu_share = gpu_share
        self.device = device
        self.loads: Literal["backbone", "data"] | None = None

    @cached_property
    def summary(self) -> DatasetSummary:
        from mmap_model.data import dataset_summary

        return dataset_summary(self._dataset_spec, self._cache_dir)

    @property
    def tasks(self) -> int:
        return len(self.summary.tasks)

    @cached_property
    def manifest(self) -> str:
        return self.summary.manifest

    @cached_property
    def fingerprint(self) -> str:
        from mmap_model.backbone_identity import fingerprint_of

        return fingerprint_of(self._backbone_spec)

    @cached_property
    def inputs(self) -> Inputs:
        from mmap_model.backbone_identity import weight_groups
        from orchestrator.work.inputs import Inputs

        return Inputs.of(self._dataset, self.fingerprint, weight_groups(self._backbone_spec))

    def load(self) -> None:
        if self._backbone.fingerprint != self.fingerprint:
            from mmap_model.backbone_identity import forget_fingerprint
            from mmap_model.errors import BackboneError

            forget_fingerprint(self._backbone_spec)
            raise BackboneError(
                f"the weights of {self._backbone_spec.model!r} were replaced since they were last read here: "
                f"fingerprint {self.fingerprint}, found {self._backbone.fingerprint}",
                where="backbone",
                fix="run the command again: it compares them with those of the study",
            )
        assert self._dataset.manifest == self.manifest, "the opened dataset is another one"

    def start(self, cells: Sequence[Cell]) -> BatchRun:
        from mmap_model.training import FusedRun

        run = FusedRun(
            list(cells),
            self._backbone,
            self._dataset,
            device=self.device,
            execution=self._execution,
            memo=self._memo,
        )
        return _ModelRun(run)

    def profile(self, cells: Sequence[Cell]) -> dict[str, Any]:
        """What a step of these cells costs, JSON-ready: ``mmap_model.training.profile.Profile`` and more.

        Of cells that do not train as one batch, the widest group is measured.
        """
        from mmap_model.training.profile import profile_cells
        from mmap_model.training.provenance import provenance

        found = profile_cells(
            max(map(list, self.fusable(cells)), key=len),
            self._backbone,
            self._dataset,
            device=self.device,
            execution=self._execution,
        )
        derived = {"cell_seconds": found.cell_seconds, "share_of_matmul": found.share_of_matmul}
        return {**vars(found), **derived, **provenance(self.device)}

    def is_interruption(self, error: Exception) -> bool:
        from mmap_model.training import RunInterrupted

        return isinstance(error, RunInterrupted)

    def fuses(self, point: Point) -> bool:
        from mmap_model.methods import get_method

        return get_method(point.method).fuses

    def fusable(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        from mmap_model.training import fusable

        return fusable(cells, self._dataset)

    def count(self, cell: Cell) -> int:
        from mmap_model.architecture import read_architecture
        from mmap_model.methods import ProblemSize, get_method

        configuration, images = cell.configuration, None
        method = get_method(configuration.method)
        if method.class_bound and method.fits:
            from mmap_model.training.replicate import draw_tasks

            images = [len(drawn.train) for drawn in draw_tasks(cell, self._dataset)]
        size = ProblemSize(
            tasks=self.tasks,
            groups=len(configuration.partition or ()),
            classes=[task.classes for task in self.summary.tasks],
            images=images,
            partition=configuration.partition,
        )
        architecture = read_architecture(self._backbone_spec.model)
        return method.parameters(configuration.settings, architecture, size)

    def probe(self, point: Point) -> Configuration:
        from mmap_model.grouping import probe_configuration

        assert point.grouping is not None, "only a grouped point has a probe"
        return probe_configuration(point.grouping, point, tasks=self.tasks)

    def resolve(
        self, grouping: Grouping, gram: bytes | None, train_seed: int
    ) -> tuple[Partition, dict[str, Any]]:
        from mmap_model.grouping import GramStack, resolve_partition

        grams = None if gram is None else GramStack.from_bytes(gram)
        resolved = resolve_partition(grouping, grams, tasks=self.tasks, train_seed=train_seed)
        return resolved.partition, resolved.to_dict()

    def score_test(
        self,
        cells: Sequence[Cell],
        files: Mapping[str, Mapping[str, bytes]],
        check: Callable[[], None],
    ) -> dict[str, dict[str, Any]]:
        from mmap_model.training import score_test

        return score_test(list(cells), files, self._backbone, self._dataset, device=self.device, check=check)

    @cached_property
    def _memo(self) -> EmbeddingMemo:
        from mmap_model.training.embedding_memo import EmbeddingMemo

        return EmbeddingMemo()

    @cached_property
    def _backbone(self) -> Backbone:
        import torch

        from mmap_model.backbone import load_backbone
        from mmap_model.training.memory import keep_to_share

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        if self._gpu_share < 1 and self.device.startswith("cuda"):
            keep_to_share(self.device, self._gpu_share)
        dtype = torch.float64 if self._precision == "fp64" else torch.float32
        with self._loading("backbone"):
            return load_backbone(self._backbone_spec, device=self.device, dtype=dtype)

    @cached_property
    def _dataset(self) -> Dataset:
        from mmap_model.data import open_dataset

        with self._loading("data"):
            return open_dataset(self._dataset_spec, self._cache_dir)

    @contextlib.contextmanager
    def _loading(self, what: Literal["backbone", "data"]) -> Iterator[None]:
        self.loads = what
        try:
            yield
        finally:
            self.loads = None


class _ModelRun:
    """A ``FusedRun`` behind the plain dictionaries of ``BatchRun``."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.restore: Callable[[bytes], None] = run.restore
        self.state: Callable[[], bytes] = run.state
        self.cancel: Callable[[str], None] = run.cancel

    @property
    def epoch(self) -> int:
        return int(self._run.epoch)

    @property
    def active(self) -> Sequence[str]:
        return tuple(self._run.active)

    @property
    def failed(self) -> Mapping[str, str]:
        return dict(self._run.failed)

    @property
    def position(self) -> Position | None:
        found: Position | None = self._run.position
        return found

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[EngineReport]:
        for report in self._run.epochs(should_stop=should_stop):
            yield report.epoch, report.cells

    def initial(self) -> EngineReport:
        report = self._run.evaluate_initial()
        return report.epoch, report.cells

    def finish(self) -> dict[str, dict[str, Any]]:
        return {key: dict(vars(result)) for key, result in self._run.finish().items()}
