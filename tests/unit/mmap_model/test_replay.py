"""Steps that are recorded once and replayed give the numbers of eager steps, whatever is trained.

CUDA's graphs are not to be had everywhere; the stand-in here repeats the recorded operators on the recorded
tensors, so that whatever a step takes from elsewhere (a number of Python, a mask of another step) shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split
from mmap_model.data import Dataset
from mmap_model.execution import Execution
from mmap_model.grouping import probe_configuration
from mmap_model.methods import get_method, method_names
from mmap_model.training import FusedRun, replay
from mmap_model.training.step import TrainingStep
from tests.unit.mmap_model.test_host_waits import NAMES, SETTINGS


class Operators(TorchDispatchMode):
    """Notes operators with the tensors they were given and gave, and does the same again."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Any, Any, Any, Any]] = []
        self.repeats = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.noted.append((func, args, kwargs or {}, found))
        return found

    @torch.no_grad()
    def repeat(self) -> None:
        self.repeats += 1
        for func, args, kwargs, found in self.noted:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.detach().copy_(new)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Operators]:
    """Let steps be recorded on the CPU; what was recorded."""
    made: list[Operators] = []

    def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        made.append(Operators())
        with made[-1] as noted:
            result = work()
        return noted.repeat, result

    monkeypatch.setattr(Execution, "replays", lambda self, device: self.compile == "graphs")
    monkeypatch.setattr(replay, "record_cuda_graph", record)
    return made


@pytest.fixture
def dataset(pattern_dataset: Callable[..., Dataset]) -> Dataset:
    same = dict.fromkeys(NAMES, 8)
    return pattern_dataset(
        {"plain": ("plain", same), "noisy": ("noisy", same), "odd": ("odd", {"dog": 8, "bell": 8})}
    )


def run_of(
    backbone: Backbone,
    dataset: Dataset,
    method: str,
    compile: str,
    *,
    probe: bool = False,
    settings: dict[str, Any] | None = None,
    **recipe: Any,
) -> FusedRun:
    own = get_method(method)
    chosen = own.Settings(**SETTINGS.get(method, {}) | (settings or {}))
    how = Recipe(**{"epochs": 2, "batch_size": 2, "warmup_epochs": 0, "lr": 0.01, **recipe})
    if probe:
        grouping = Grouping(probe=Probe(same=True, snapshot_every=2))
        point = Point(method=method, settings=chosen, recipe=how, grouping=grouping)
        configuration = probe_configuration(grouping, point, tasks=3)
    else:
        partition = ((0, 1), (2,)) if own.grouped else None
        configuration = Configuration(method=method, settings=chosen, recipe=how, partition=partition)
    cells = [
        Cell(
            kind="probe" if probe else "train",
            configuration=configuration,
            split=Split(shots=3),
            seeds=Seeds.both(run),
            dataset=dataset.manifest,
            backbone="b" * 32,
            snapshot_every=2 if probe else None,
        )
        for run in ((1, 2) if own.fuses else (1,))
    ]
    return FusedRun(cells, backbone, dataset, execution=Execution(compile=compile))  # type: ignore[arg-type]


def state_after(run: FusedRun) -> dict[str, Any]:
    """Everything that training moved, and what it reported."""
    reports = [report.cells for report in run.epochs()]
    losses = [cell["train_loss"] for report in reports for cell in report.values()]
    return {"losses": losses, **(run._sgd.state() if run._sgd is not None else {})}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=0, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("method", method_names())
def test_a_replayed_step_of_every_method_is_the_eager_one(
    method: str, tiny_backbone: Backbone, dataset: Dataset, records: list[Operators]
) -> None:
    eager = run_of(tiny_backbone, dataset, method, "off")
    replayed = run_of(tiny_backbone, dataset, method, "graphs")
    expected = state_after(eager)
    assert not records
    assert_equal(state_after(replayed), expected)
    if replayed._sgd is None:
        assert not records, "nothing is trained"
    elif replayed._model.steps_alike:
        assert records and all(record.repeats for record in records)
    else:
        assert not records, "what a step draws would be drawn once for all"


def test_lora_without_dropout_is_replayed(
    tiny_backbone: Backbone, dataset: Dataset, records: list[Operators]
) -> None:
    found, expected = (
        state_after(run_of(tiny_backbone, dataset, "clip_lora", compile, settings={"dropout": 0.0}))
        for compile in ("graphs", "off")
    )
    assert records
    assert_equal(found, expected)


def test_a_probe_replays_the_steps_between_its_snapshots(
    tiny_backbone: Backbone, dataset: Dataset, records: list[Operators]
) -> None:
    eager, replayed = (
        run_of(tiny_backbone, dataset, "mmap", compile, probe=True) for compile in ("off", "graphs")
    )
    expected = state_after(eager)
    assert_equal(state_after(replayed), expected)
    assert records
    assert replayed._probe is not None and eager._probe is not None
    for number in range(2):
        assert replayed._probe.stack(number).to_bytes() == eager._probe.stack(number).to_bytes()


def test_a_cancelled_replicate_is_recorded_anew_and_stays_silent(
    tiny_backbone: Backbone, dataset: Dataset, records: list[Operators]
) -> None:
    states = []
    for compile in ("off", "graphs"):
        run = run_of(tiny_backbone, dataset, "mmap", compile, epochs=3)
        epochs = run.epochs()
        next(epochs)
        run.cancel(run.active[0])
        for _ in epochs:
            pass
        assert run._sgd is not None
        states.append(run._sgd.state())
    assert_equal(states[1], states[0])
    assert len(records) == 2, "one with all replicates, one with a mask"


def test_a_step_that_cannot_be_recorded_goes_on_eagerly(
    tiny_backbone: Backbone,
    dataset: Dataset,
    records: list[Operators],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = state_after(run_of(tiny_backbone, dataset, "mmap", "off"))
    tries = []

    def refuse(work: Callable[[], Tensor]) -> Any:
        tries.append(work)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(replay, "record_cuda_graph", refuse)
    assert_equal(state_after(run_of(tiny_backbone, dataset, "mmap", "graphs")), expected)
    assert len(tries) == 1
    assert "could not be recorded (CUDA out of memory. Tried to allocate 2.00 GiB)" in caplog.text


def test_what_holds_a_record_ends_with_the_run(
    tiny_backbone: Backbone, dataset: Dataset, records: list[Operators]
) -> None:
    """A record holds the memory of a whole step; the next batch of cells needs it."""
    import gc
    import weakref

    run = run_of(tiny_backbone, dataset, "mmap", "graphs")
    state_after(run)
    step = run._step
    assert isinstance(step, TrainingStep) and step._recorded is not None
    recorded = weakref.ref(step._recorded)
    records.clear()
    gc.disable()
    try:
        run._step = step = None
        assert recorded() is None, "a cycle holds it until the next collection"
    finally:
        gc.enable()
