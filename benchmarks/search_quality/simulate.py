"""One search over the table, by the code that searches: the samplers' proposals, and what stops trials."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from table import EPOCHS, Table

from mmap_model.plain import content_key
from orchestrator.driver.recorded_search import outcome_of, record_of
from orchestrator.driver.staging import Staging
from orchestrator.ledger import TrialRecord
from orchestrator.rows.row import epochs_of
from orchestrator.search.proposals import Proposals
from orchestrator.search.samplers import Samplers
from orchestrator.search.stop_rule import stop_rule
from orchestrator.statistics.stages import STOPPED, seeds_in_work
from orchestrator.study import StudyPlan


@dataclass
class Costs:
    """What a search has spent; a cell that was trained for another point is there already.

    Attributes:
        seconds: of one cell's epoch with its evaluation, by how many cells are trained as one batch.
        probe: seconds of one seed's probe, likewise.
        cell_epochs: epochs of cells trained, probes included.
        device_seconds: the same in seconds of one core.
    """

    seconds: dict[int, float]
    probe: dict[int, float]
    probe_epochs: int = 2
    cell_epochs: float = 0.0
    device_seconds: float = 0.0
    _trained: dict[str, int] = field(default_factory=dict)
    _probed: set[int] = field(default_factory=set)

    def train(self, cells: Sequence[str], epoch: int) -> None:
        """Bring cells to an epoch; those that need it are one batch."""
        wanted = [key for key in cells if self._trained.get(key, 0) < epoch]
        if wanted:
            self._trained.update(dict.fromkeys(wanted, epoch))
            self.cell_epochs += len(wanted)
            self.device_seconds += len(wanted) * self.seconds[len(wanted)]

    def measure(self, seeds: Sequence[int]) -> None:
        """The probes that the grouping at these seeds needs, once."""
        wanted = [seed for seed in seeds if seed not in self._probed]
        if wanted:
            self._probed.update(wanted)
            self.cell_epochs += self.probe_epochs * len(wanted)
            self.device_seconds += len(wanted) * self.probe[len(wanted)]


@dataclass(frozen=True)
class Step:
    """After a trial: what was spent so far, and the point that a search which ends here would choose."""

    cell_epochs: float
    device_seconds: float
    best: str


def search(
    table: Table, plan: StudyPlan, seeds: Sequence[int], trials: int, seed: int, costs: Costs
) -> Iterator[Step]:
    """Search the table.

    Args:
        table: of all points.
        plan: with the sampler and the scheduler.
        seeds: columns of the table that are observed, in order.
        trials: at most.
        seed: of the sampler.
        costs: take what is spent.

    Yields:
        After every trial; the first is complete, for nothing is stopped before two are.
    """
    settings = plan.study.search
    proposals = Proposals(
        plan.space.suggest,
        samplers=Samplers(name=settings.sampler, options=settings.sampler_options, seed=seed),
    )
    rule = stop_rule(plan.study)
    staging = None if rule is None else Staging(rule)
    tune = None if staging is not None or settings.scheduler.name == "none" else TuneScheduler(plan)
    best, chosen = -math.inf, ""
    for number in range(trials):
        proposal = proposals.propose(number)
        if proposal is None:
            return
        point, record = content_key(proposal.point.to_dict()), record_of(proposal)
        _train(table, record, point, seeds, costs, staging, tune)
        if record.state == "complete":
            record.value = record.epochs[-1]["mean"]
            if record.value > best:
                best, chosen = record.value, point
        proposals.tell(number, outcome_of(record))
        yield Step(costs.cell_epochs, costs.device_seconds, chosen)


def _train(
    table: Table,
    record: TrialRecord,
    point: str,
    seeds: Sequence[int],
    costs: Costs,
    staging: Staging | None,
    tune: TuneScheduler | None,
) -> None:
    """Bring a trial to its end, as the driver does from the events of its work."""
    stage = len(seeds) if staging is None else staging.begin(record)
    while True:
        now = seeds[:stage]
        costs.measure(now)
        for epoch in range(1, EPOCHS + 1):
            costs.train([table.cells[point][seed] for seed in now], epoch)
            values = [table.values[point][seed][epoch - 1] for seed in now]
            mean = math.fsum(values) / stage
            record.epochs.append({"epoch": epoch, "mean": mean, "values": values})
            judgement = None if staging is None else staging.reached(record)
            if judgement is not None or (tune is not None and tune.stops(record)):
                record.state, record.attributes[STOPPED] = "pruned", {}
                return
        if staging is None or stage == len(seeds):
            break
        decided = staging.next_stage(record)
        if not isinstance(decided, int):
            record.state, record.attributes[STOPPED] = "pruned", decided.to_dict()
            return
        stage = seeds_in_work(record, len(seeds))
    record.state = "complete"
    if staging is not None:
        staging.ended(record)
    if tune is not None:
        tune.ended(record)


class TuneScheduler:
    """A scheduler of Ray Tune, told of one trial after the other."""

    def __init__(self, plan: StudyPlan) -> None:
        from orchestrator.search.stopping import Elsewhere, RecordedTrial, make_scheduler

        study = plan.study
        self._make: Any = RecordedTrial
        self._scheduler = make_scheduler(
            study.search.scheduler,
            epochs=study.recipe.epochs,
            reduction_factor=study.search.reduction_factor,
            warmup=study.recipe.warmup_epochs,
            version=study.search.scheduler_version or 2,
        )
        self._controller: Any = Elsewhere()
        self._trials: dict[int, Any] = {}

    def stops(self, record: TrialRecord) -> bool:
        """Whether the trial is stopped after its latest epoch; the last one comes with the end."""
        epoch, mean = record.epochs[-1]["epoch"], record.epochs[-1]["mean"]
        if epoch == EPOCHS:
            return False
        if record.number not in self._trials:
            self._trials[record.number] = self._make(record.number, {})
            self._scheduler.on_trial_add(self._controller, self._trials[record.number])
        result = {"epoch": epoch, "mean": mean}
        trial = self._trials[record.number]
        trial.last_result = result
        stopped = self._scheduler.on_trial_result(self._controller, trial, result) == "STOP"
        if stopped:
            self.ended(record)
        return stopped

    def ended(self, record: TrialRecord) -> None:
        epochs = epochs_of(record)
        last = max(epochs)
        trial = self._trials[record.number]
        trial.status = "TERMINATED"
        self._scheduler.on_trial_complete(self._controller, trial, {"epoch": last, "mean": epochs[last]})
