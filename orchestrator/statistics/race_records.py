"""A race as its records have it: its terms, the values of its fresh seeds, how it stands, what it found.

The finalists of a race are the trials of a study of its own, under the numbers that they have in the study
they come from. Their cells are of fresh seeds. The terms are written when the race begins and stay, but for
the budget, which may be raised. The course is written whenever a seed is decided on; it follows from the
terms and the cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.ledger import CorruptError, Ledger, StudyStore, TrialRecord
from orchestrator.statistics.noise import ResidualNoise, combined, pooled_noise
from orchestrator.statistics.optimism import optimism
from orchestrator.statistics.race import Fall, Race, Rules, Wave, decide
from orchestrator.statistics.summary import seed_means, summarize

TERMS, COURSE = "terms", "course"

FALLEN = "race"
"""What a finalist that fell was stopped by."""

Records = Mapping[str, Mapping[str, Any]]
"""Of finished cells, by key."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a race was begun with.

    Attributes:
        study, study_id: whose finalists race; the id is empty where it has none.
        finalists: numbers of trials, the best by the search first.
        search: their values in the search by number and seed, means over splits.
        splits: labels.
        seeds: labels of fresh seeds in the order in which they are raced.
        alpha, within, budget, noise: see ``race.Rules``.
    """

    study: str
    study_id: str = ""
    finalists: tuple[int, ...]
    search: Mapping[int, Mapping[str, float]]
    splits: tuple[str, ...]
    seeds: tuple[str, ...]
    alpha: float
    within: float | None
    budget: int
    noise: ResidualNoise | None

    @property
    def rules(self) -> Rules:
        return Rules(
            alpha=self.alpha,
            within=self.within,
            budget=self.budget,
            cells=len(self.splits),
            noise=self.noise,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; ``from_dict`` reads it back."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            **plain,
            "finalists": list(self.finalists),
            "search": {str(number): dict(seeds) for number, seeds in self.search.items()},
            "splits": list(self.splits),
            "seeds": list(self.seeds),
            "noise": None if self.noise is None else self.noise.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Terms:
        """Of ``to_dict``. Raises CorruptError."""
        try:
            known = {each.name: data[each.name] for each in fields(cls)}
            return cls(
                **{
                    **known,
                    "finalists": tuple(int(number) for number in data["finalists"]),
                    "search": {int(number): dict(seeds) for number, seeds in data["search"].items()},
                    "splits": tuple(data["splits"]),
                    "seeds": tuple(data["seeds"]),
                    "noise": None if data["noise"] is None else ResidualNoise(**data["noise"]),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptError(f"it does not hold the terms of a race: {error!r:.60}") from None


def load_terms(store: StudyStore) -> Terms | None:
    """The terms of a study that is a race; None if it is none. Raises CorruptError."""
    known = store.load_race(TERMS)
    return None if known is None else Terms.from_dict(known)


def values_of(trial: TrialRecord, terms: Terms, records: Records) -> dict[str, float]:
    """A finalist's values by fresh seed, in the order of the race; seeds with all splits finished."""
    accuracies = {
        (cell["split"], cell["seed"]): records[cell["key"]]["metrics"].get("accuracy")
        for cell in trial.cells
        if cell["key"] in records
    }
    known = {place: float(value) for place, value in accuracies.items() if value is not None}
    return {
        seed: seed_means({(split, seed): known[split, seed] for split in terms.splits})[seed]
        for seed in terms.seeds
        if all((split, seed) in known for split in terms.splits)
    }


def waves_of(terms: Terms, trials: Mapping[int, TrialRecord], records: Records) -> list[Wave]:
    """The values of each fresh seed, in the order of the race.

    A trial that failed has the value None at the first seed that it lacks.
    """
    values = {n: values_of(trial, terms, records) for n, trial in trials.items()}
    waves: list[dict[int, float | None]] = [{} for _ in terms.seeds]
    for number, trial in trials.items():
        for wave, seed in zip(waves, terms.seeds, strict=True):
            if seed in values[number]:
                wave[number] = values[number][seed]
            elif trial.state == "failed":
                wave[number] = None
                break
    return list(waves)


def standing(terms: Terms, trials: Mapping[int, TrialRecord], records: Records) -> Race:
    """How the race stands by its cells."""
    return decide(terms.finalists, waves_of(terms, trials, records), terms.rules)


def describe_race(store: StudyStore, ledger: Ledger, trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """The race of a study's results, JSON-able; None if the study is no race.

    ``of`` (the study and its id), ``alpha``, ``within``, ``budget``, ``noise`` ``{s, nu}`` of the search,
    ``seeds`` (labels of those decided on), ``cells`` (of these), ``ahead`` (cells trained beyond them),
    ``end``, ``gap`` (bound on how much better one survivor is than another), ``standing``, ``finalists``
    (one each: ``number``, ``search`` and ``fresh`` as ``{mean, std, n, low, high}``, ``evidence`` against it,
    ``fell`` ``{seed, after, evidence, against}`` or None), ``pairs`` ``[i, j, E that j is better]``,
    ``optimism`` (see ``.optimism``). Without its terms, ``problem`` alone says why.
    """
    try:
        terms = load_terms(store)
    except CorruptError as error:
        return {"problem": str(error)}
    if terms is None:
        return None
    by_number = {trial.number: trial for trial in trials}
    records = ledger.get_many(key for trial in trials for key in trial.keys)
    race = standing(terms, by_number, records)
    return course_of(terms, race, by_number, records)


def course_of(
    terms: Terms, race: Race, trials: Mapping[int, TrialRecord], records: Records
) -> dict[str, Any]:
    """What ``describe_race`` gives, of a race as it stands."""
    decided = terms.seeds[: race.seeds]
    known = {n: values_of(trial, terms, records) for n, trial in trials.items()}
    fell = {fall.finalist: fall for fall in race.fallen}
    fresh: dict[int, dict[str, float]] = {}
    for number in terms.finalists:
        last = fell[number].seed if number in fell else race.seeds
        fresh[number] = {s: v for s, v in known.get(number, {}).items() if s in decided[:last]}
    trained = sum(len(seeds) for seeds in known.values()) * len(terms.splits)
    known_noise = [noise for noise in (terms.noise, pooled_noise(fresh)) if noise is not None]
    leads = optimism(terms.finalists, terms.search, fresh, combined(known_noise))
    about = race.to_dict()
    return {
        "of": {"study": terms.study, "id": terms.study_id},
        "alpha": terms.alpha,
        "within": terms.within,
        "budget": terms.budget,
        "noise": None if terms.noise is None else terms.noise.to_dict(),
        "seeds": list(decided),
        "cells": race.cells,
        "ahead": max(0, trained - race.cells),
        "end": race.end,
        "gap": about["gap"],
        "standing": about["standing"],
        "finalists": [
            {
                "number": number,
                "search": _summary(terms.search.get(number, {}).values()),
                "fresh": _summary(fresh[number].values()),
                "evidence": race.evidence[number],
                "fell": fell_record(fell[number], terms) if number in fell else None,
            }
            for number in terms.finalists
        ],
        "pairs": about["pairs"],
        "optimism": None if leads is None else leads.to_dict(),
    }


def fell_record(fall: Fall, terms: Terms) -> dict[str, Any]:
    """When a finalist fell and why: ``{seed, after, evidence, against}``, see ``race.Fall``."""
    return {
        "seed": terms.seeds[fall.seed - 1],
        "after": fall.seed,
        "evidence": fall.evidence,
        "against": fall.against,
    }


def _summary(values: Iterable[float]) -> dict[str, Any] | None:
    found = list(values)
    return summarize(found).to_dict() if found else None
