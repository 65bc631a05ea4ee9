"""What the records of a race leave to be done. Reads only, but for taking its trials over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmap_model.configuration import Seeds
from orchestrator.driver.draws import check_draws
from orchestrator.driver.race_plan import RacePlan
from orchestrator.driver.unchanged import require_same_cells, require_same_rules
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.rows.reference import missing_references
from orchestrator.rows.scoring import Named, finalists, unscored
from orchestrator.statistics.race import Race
from orchestrator.statistics.race_records import standing
from orchestrator.study import Study

SURVIVORS = "end of the race: those that stand"
"""Why the test images are looked at."""


@dataclass(frozen=True, kw_only=True)
class RaceTodo:
    """The work of an invocation.

    Attributes:
        plan: the race, on its recorded terms.
        records: of the finalists, by number.
        race: how it stands.
        settled: the records of the finalists say what became of them.
        references: the reference row at the raced seeds is missing.
        confirm: rows to score on the test images, as far as known.
        reason: recorded with looks at them.
    """

    plan: RacePlan
    records: Mapping[int, TrialRecord]
    race: Race
    settled: bool
    references: bool
    confirm: tuple[Named, ...]
    reason: str = SURVIVORS

    @property
    def anything(self) -> bool:
        return self.race.end is None or not self.settled or self.references or bool(self.confirm)

    @property
    def trials(self) -> int:
        return len(self.records)

    @property
    def done(self) -> int:
        return len(self.race.fallen)

    @property
    def best(self) -> TrialRecord | None:
        return next(iter(finalists(self.records.values(), 1)), None)

    @property
    def scoring(self) -> list[str]:
        return [key for _, record in self.confirm for key in record.keys]


def find_race(plan: RacePlan, store: StudyStore, ledger: Ledger, retry_failed: bool, reason: str) -> RaceTodo:
    """Compare a race with its records; every cell of a decided seed must still be readable."""
    base = plan.base
    known = {trial.number: trial for trial in store.load_trials()}
    records = {n: known.get(n) or _begun(plan, n) for n in plan.terms.finalists}
    named = [(f"trial {n}", record.keys) for n, record in records.items()]
    readable = ledger.get_many(key for _, keys in named for key in keys)
    require_same_cells(base, store.name, named, readable)
    if retry_failed:
        for record in records.values():
            if record.state == "failed":
                record.state, record.error = "running", None
                record.attributes.pop("fell", None)
    race = standing(plan.terms, records, readable)
    for number in race.standing if race.end is None else ():
        records[number].state = "running"
    if race.seeds:
        check_draws(store, on_seeds(base.study, plan.seeds(race.seeds)), base.dataset)
    todo = RaceTodo(
        plan=plan,
        records=records,
        race=race,
        settled=all(records[n].state == "complete" for n in race.standing)
        and all(records[fall.finalist].state != "running" for fall in race.fallen),
        references=race.end is not None and lacks_reference(plan, store, ledger, race),
        confirm=tuple(unscored(base, store, ledger, records.values())) if race.end else (),
        reason=reason,
    )
    if todo.anything:
        require_same_rules(base, store.name, named, readable)
    store.adopt([records[n] for n in records if n in known])
    return todo


def lacks_reference(plan: RacePlan, store: StudyStore, ledger: Ledger, race: Race) -> bool:
    """Whether zero-shot CLIP is still to be measured at the raced seeds."""
    if not race.seeds or not race.standing:
        return False
    missing = missing_references(plan.base, store, ledger, ())
    seeds = {cell["seed"] for row in store.load_baselines().values() for cell in row["cells"]}
    return bool(missing) or seeds != set(plan.terms.seeds[: race.seeds])


def on_seeds(study: Study, seeds: Sequence[Seeds]) -> Study:
    """A race with these of its seeds alone."""
    return study.model_copy(update={"seeds": tuple(seeds)})


def _begun(plan: RacePlan, number: int) -> TrialRecord:
    """The record of a finalist that has not raced yet: what it is, from the study that it comes from."""
    origin = plan.records[number]
    return TrialRecord(
        number=number,
        params=dict(origin.params),
        distributions=dict(origin.distributions),
        point=dict(origin.point),
        attributes={"of": {"study": plan.terms.study, "trial": number}},
    )
