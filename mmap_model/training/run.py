"""Training cells that differ in seed and partition only, as one batch.

Legend: R replicates (one per cell), T tasks, B images per task and step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell
from mmap_model.configuration import has_validation
from mmap_model.data.dataset import Dataset
from mmap_model.execution import DEFAULT_EXECUTION, Execution
from mmap_model.forward.precision import exact_products
from mmap_model.host_memory import keep_freed_memory
from mmap_model.methods import get_method
from mmap_model.training.batches import TrainingBatches
from mmap_model.training.embedding_memo import EmbeddingMemo, Shelf, shown_images
from mmap_model.training.evaluation import Evaluation, finite_logits
from mmap_model.training.health import Health
from mmap_model.training.metrics import TaskPredictions, mean_over_tasks, summarise
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.pixels import Normalisation
from mmap_model.training.position import Position
from mmap_model.training.probe import ProbeRecorder
from mmap_model.training.replicate import Stopwatch, make_replicates, problem_of
from mmap_model.training.results import CellResult, cell_result
from mmap_model.training.state import pack, unpack
from mmap_model.training.step import TrainingStep
from mmap_model.training.support import DrawnSupport, EmbeddedBatches, KeptBatches

POLL_STEPS = 4
"""Steps between two looks at what has become of the losses."""

_FITTED = "fitted."

METRICS = ("accuracy", "nll", "ece", "macro_f1", "train_loss")


class RunInterrupted(Exception):
    """``should_stop`` said so within an epoch; the state of the epoch before is the last whole one."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch of all cells still active.

    Attributes:
        epoch: 1-based; 0 for a freshly initialised model.
        cells: by cell key, JSON-ready: ``accuracy``, ``nll``, ``ece``, ``macro_f1`` (means over tasks on the
            validation images; None under a protocol without them, and after epochs at which
            ``Execution.evaluate`` leaves them out), ``train_loss`` (mean over tasks and steps, nats; None
            where nothing was trained), ``lr``, ``tasks`` (the same numbers by task), ``seconds`` (this cell's
            share of the batch's time, by phase).
    """

    epoch: int
    cells: dict[str, dict[str, Any]]


class FusedRun:
    """R cells in training as one batch, with the numbers that each would have alone.

    Args:
        cells: all ``train`` or all ``probe``; equal but for seeds and partition, and one group of `fusable`.
            One cell is a batch of one.
        backbone: in double precision for ``fp64`` cells, in single precision otherwise.
        dataset: whose manifest the cells name.
        device: where to compute; the backbone is moved there.
        execution: how to compute.
        memo: what earlier cells of this backbone and dataset left, and where this one leaves what it embeds.
            On the CPU alone: a GPU replays whole steps, and is not asked how long a part of one takes.

    Attributes:
        epoch: completed epochs.
        position: within the epoch in work; None before the first.

    Raises:
        DatasetError: a task is too small for the split.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        backbone: Backbone,
        dataset: Dataset,
        *,
        device: torch.device | str = "cpu",
        execution: Execution = DEFAULT_EXECUTION,
        memo: EmbeddingMemo | None = None,
    ) -> None:
        self.epoch = 0
        self.position: Position | None = None
        self._replicates = make_replicates(cells, dataset)
        self._cell, self._dataset, self._backbone = cells[0], dataset, backbone.to(device)
        exact_products()
        if self._backbone.device.type == "cpu":
            keep_freed_memory()
        self._recipe = cells[0].configuration.recipe.for_split(cells[0].split)
        self._method = get_method(cells[0].configuration.method)
        assert len(cells) == 1 or self._method.fuses, f"{self._method.name} trains one cell at a time"
        assert (backbone.dtype == torch.float64) == (cells[0].precision == "fp64"), (
            "backbone of this precision"
        )
        self._model = self._method.build(
            cells[0].configuration.settings,
            backbone,
            problem_of(cells, dataset, [replicate.draws for replicate in self._replicates]),
        )
        self._model.execution = self._execution = execution
        trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._sgd = self._make_optimiser(trained) if trained else None
        self._normalise = Normalisation(backbone)
        self._batches: TrainingBatches | None = None
        self._support: DrawnSupport | None = None
        self._embedded: KeptBatches | EmbeddedBatches | None = None
        self._fitted = not self._model.fits
        self._step: TrainingStep | None = None
        self._evaluation: Evaluation | None = None
        self._predictions: list[list[TaskPredictions]] | None = None
        self._probe = ProbeRecorder(cells[0].snapshot_every or 1) if cells[0].kind == "probe" else None
        names = [task.name for task in dataset.tasks]
        self._health = Health(self._replicates, names, self._sgd, self._probe, backbone.device)
        self._watch = Stopwatch()
        self._shelf = self._find_shelf(memo)
        self._between_epochs = True

    @property
    def active(self) -> tuple[str, ...]:
        """Keys of the cells that are neither failed nor cancelled."""
        return self._health.active

    @property
    def failed(self) -> dict[str, str]:
        """What went wrong, by key."""
        return {r.key: r.error for r in self._replicates if r.error is not None}

    def cancel(self, key: str) -> None:
        """Drop a cell from here on; the others go on unchanged. Unknown keys are ignored."""
        for replicate in self._replicates:
            if replicate.key == key:
                replicate.cancelled = True

    def epochs(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[EpochReport]:
        """Train the epochs that are left, yielding after each; ends with an empty report if no cell is left.

        A method that trains nothing has one report, as of the last epoch.

        Raises:
            RunInterrupted: ``should_stop``, asked before every step, returned True.
        """
        while self.epoch < self._recipe.epochs and self.active:
            self._between_epochs = False
            self._fit()
            epoch, rate, losses = self._recipe.epochs, 0.0, None
            if self._sgd is not None:
                epoch = self.epoch + 1
                rate = self._sgd.start_epoch(epoch, self._training_batches().steps)
                losses = self._train(self._sgd, epoch, should_stop)
                self._sgd.end_epoch()
            self._predictions = None
            if self.active and self._is_scored(epoch):
                self._predictions = self._evaluate(should_stop)
                self._health.drop_broken(epoch, self._predictions)
            if not self.active:
                yield EpochReport(epoch, {})
                return
            report = self._report(epoch, rate, losses)
            for replicate in self._replicates:
                if replicate.active:
                    replicate.history.append({"epoch": epoch, **report.cells[replicate.key]})
            self.epoch, self._between_epochs = epoch, True
            yield report

    def evaluate_initial(self) -> EpochReport:
        """The model as it is before any training, on the validation images: the zero-step row.

        Cells of which the logits are not finite fail here as they do in ``epochs``.
        """
        assert self.epoch == 0, "training has begun"
        self._fit()
        self._predictions = self._evaluate(lambda: False)
        self._health.drop_broken(0, self._predictions)
        return self._report(0, 0.0, None)

    def state(self) -> bytes:
        """Everything that going on bit for bit needs. Only between epochs, not after `RunInterrupted`."""
        assert self._between_epochs, "an interrupted epoch leaves no whole state"
        tensors = self._sgd.state() if self._sgd is not None else {}
        tensors |= {_FITTED + name: tensor for name, tensor in self._model.fitted().items()}
        if self._probe is not None:
            tensors |= self._probe.state()
        return pack({"epoch": self.epoch, "replicates": [r.record() for r in self._replicates]}, tensors)

    def restore(self, data: bytes) -> None:
        """Go on from what `state` of a run of the same cells gave."""
        document, tensors = unpack(data)
        self.epoch = document["epoch"]
        for replicate, record in zip(self._replicates, document["replicates"], strict=True):
            replicate.restore(record)
        if self._sgd is not None:
            self._sgd.restore(tensors)
        kept = {n.removeprefix(_FITTED): t for n, t in tensors.items() if n.startswith(_FITTED)}
        self._model.restore_fitted(kept)
        self._fitted = True
        if self._probe is not None:
            self._probe.restore(tensors)
        self._predictions, self._between_epochs = None, True

    def finish(self) -> dict[str, CellResult]:
        """Results of the active cells, by key, from the model as it is now."""
        assert self._between_epochs or not self.active, "an interrupted epoch has no result"
        if self._predictions is None and self.active:
            self._predictions = self._evaluate(lambda: False)
            self._health.drop_broken(self.epoch, self._predictions)
        return {
            replicate.key: cell_result(
                replicate,
                number,
                fused=len(self._replicates),
                model=self._model,
                backbone=self._backbone,
                dataset=self._dataset,
                predictions=self._predictions[number] if self._predictions else None,
                grams=self._probe.stack(number) if self._probe else None,
            )
            for number, replicate in enumerate(self._replicates)
            if replicate.active
        }

    def _train(self, sgd: ReplicateOptimiser, epoch: int, should_stop: Callable[[], bool]) -> Tensor:
        """One epoch; returns the mean training losses [R, T]."""
        self._watch.start()
        taker = self._training_step(sgd)
        batches = self._embedded or self._training_batches()
        position = self.position = Position("training", epoch, steps=batches.steps)
        total = torch.zeros((), device=self._backbone.device)
        self._model.train()
        for step, (pixels, labels) in enumerate(batches.epoch(epoch)):
            self._watch.lap("data")
            position.step = step
            if should_stop():
                raise RunInterrupted(f"in epoch {epoch}, before step {step + 1} of {batches.steps}")
            if step % POLL_STEPS == 0:
                if self._backbone.device.type == "cpu":
                    # Elsewhere this look would make the host wait for the device in the middle of an epoch.
                    self._health.drop_diverged(epoch)
                if not self.active:
                    break
            total = total + self._take(taker, pixels, labels, (epoch - 1) * batches.steps + step + 1)
            self._watch.lap("train")
        self._health.drop_diverged(epoch)
        if self.active and not self._is_scored(epoch):
            # Without validation images nobody looks at the logits before others are scored.
            sound = self._finite_on(pixels)
            self._health.drop_unsound(sound, epoch, "its logits on training images are not finite")
        self._watch.lap("train")
        return total / batches.steps

    def _take(self, step: TrainingStep, pixels: Tensor, labels: Tensor, number: int) -> Tensor:
        """Losses [R, T] of step ``number``, 1-based over all epochs, which is taken."""
        probe, snapshot = self._probe, None
        warm_up = self._recipe.warmup_epochs * self._training_batches().steps
        if probe is not None and probe.due(number, warm=number > warm_up):
            snapshot = partial(probe.record, number)
        self._model.step = number
        losses = step.take(pixels, labels, self._health.mask(), snapshot)
        self._health.see(losses, number)
        return losses

    def _find_shelf(self, memo: EmbeddingMemo | None) -> Shelf | None:
        """The place of this batch; None where other cells cannot use its embeddings, or have no memory to."""
        if memo is None or self._backbone.device.type != "cpu" or self._execution.max_memory_gb is not None:
            return None
        # A model may have brought another backbone.
        if not self._model.plain_images or getattr(self._model, "backbone", None) is not self._backbone:
            return None
        shown = shown_images(self._replicates, self._recipe, self._cell.precision)
        return Shelf(memo, shown, self._watch)

    def _make_optimiser(self, trained: dict[str, nn.Parameter]) -> ReplicateOptimiser:
        return ReplicateOptimiser(
            trained,
            self._recipe,
            tasks=len(self._dataset.tasks),
            stages=self._model.stages,
            enter=self._model.enter_stage,
        )

    def _fit(self) -> None:
        """Let the model compute what it needs of the labelled images, once."""
        if not self._fitted:
            self._watch.start()
            self._model.fit(self._training_support())
            self._watch.lap("train")
            self._fitted = True
        if self._shelf is not None and not self._model.plain_images:
            self._shelf = None

    @torch.no_grad()
    def _finite_on(self, pixels: Tensor) -> Tensor:
        """Whether all logits of training images [R, T, B, 3, H, W] are finite, bool [R]."""
        assert self._step is not None, "a step was taken"
        self._model.eval()
        with self._autocast():
            classes = self._model.class_features()
            found = [
                finite_logits(self._model, self._logits(part, classes)).flatten(1)
                for part in pixels.split(self._step.images, 2)
            ]
        return torch.cat(found, 1).all(1)

    def _is_scored(self, epoch: int) -> bool:
        """Whether the validation images are, after this epoch; not under a protocol without them."""
        return has_validation(self._cell.protocol) and self._execution.evaluates(epoch, self._recipe.epochs)

    def _logits(self, pixels: Tensor, classes: Tensor) -> Tensor:
        """Of pixels, or of what is kept of them."""
        if self._embedded is not None:
            return self._model.compare(self._model.finish_images(pixels), classes)
        return self._model.logits(self._normalise(pixels), classes)

    def _evaluate(self, should_stop: Callable[[], bool]) -> list[list[TaskPredictions]] | None:
        """Validation predictions by replicate and task; None where the protocol has no validation images."""
        if not has_validation(self._cell.protocol):
            return None
        self._watch.start()
        if self._evaluation is None:
            indices = [[d.validation for d in replicate.draws] for replicate in self._replicates]
            self._evaluation = Evaluation(self._dataset, indices, self._backbone, self._shelf)

        position = self.position = Position("validation", self.epoch + (self._sgd is not None))

        def check() -> None:
            position.step += 1
            if should_stop():
                raise RunInterrupted("while evaluating")

        if self._step is not None and self._step.in_parts:
            # Without gradients an image takes a fraction of what it takes in training.
            self._evaluation.limit(self._step.images * len(self._replicates) * len(self._dataset.tasks))
        position.steps = self._evaluation.batches
        self._model.eval()
        with self._autocast():
            found = self._evaluation.run(self._model, self._normalise, check)
        self._watch.lap("evaluate")
        return found

    def _report(self, epoch: int, rate: float, losses: Tensor | None) -> EpochReport:
        train_losses = None if losses is None else losses.tolist()
        spent = {phase: s / len(self._replicates) for phase, s in self._watch.take().items()}
        cells = {}
        for number, replicate in enumerate(self._replicates):
            if not replicate.active:
                continue
            tasks: dict[str, dict[str, Any]] = {}
            for t, task in enumerate(self._dataset.tasks):
                tasks[task.name] = summarise(self._predictions[number][t]) if self._predictions else {}
                if train_losses is not None:
                    tasks[task.name]["train_loss"] = train_losses[number][t]
            for phase, seconds in spent.items():
                replicate.seconds[phase] += seconds
            means = mean_over_tasks(tasks.values())
            cells[replicate.key] = {
                **dict.fromkeys(METRICS), **means, "lr": rate, "tasks": tasks, "seconds": dict(spent)
            }  # fmt: skip
        return EpochReport(epoch, cells)

    def _training_batches(self) -> TrainingBatches:
        if self._batches is None:
            self._batches = TrainingBatches(
                self._dataset,
                [replicate.draws for replicate in self._replicates],
                [replicate.cell.seeds.train for replicate in self._replicates],
                self._recipe,
                self._backbone,
            )
        return self._batches

    def _training_step(self, sgd: ReplicateOptimiser) -> TrainingStep:
        """Made with the batches of embeddings that it takes, where it takes them in place of pixels."""
        if self._step is None:
            batches = self._training_batches()
            shelf = self._shelf
            self._step = TrainingStep(
                self._model,
                sgd,
                self._normalise,
                self._autocast,
                kept=self._keeps_views or shelf is not None,
                give_back=shelf.memo.clear if shelf is not None else lambda: None,
            )
            if self._keeps_views:
                self._embedded = KeptBatches(batches, self._training_support())
                self._watch.lap("train")
            elif shelf is not None:
                shape = (len(self._replicates), len(self._dataset.tasks), batches.batch_size, 3)
                side, like = self._backbone.image_size, self._backbone.clip.logit_scale.new_zeros(())
                self._embedded = EmbeddedBatches(batches, self._step, shelf, like.expand(*shape, side, side))
        return self._step

    @property
    def _keeps_views(self) -> bool:
        """Whether the embeddings of a fixed number of views are trained on."""
        return self._recipe.views is not None and self._model.constant_images

    def _training_support(self) -> DrawnSupport:
        if self._support is None:
            batches = self._training_batches()
            self._support = DrawnSupport(self._model, batches, self._normalise, self._autocast, self._shelf)
        return self._support

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._backbone.device.type, torch.bfloat16, enabled=self._cell.precision == "bf16"
        )
