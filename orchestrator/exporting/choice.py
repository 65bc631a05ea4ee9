"""Which cells of a study are exported: by what validation says, never by test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmap_model.errors import InputError, nearest
from orchestrator.statistics.summary import summarize

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger, StudyStore, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A finished cell that is exported.

    Attributes:
        trial: its number in the study.
        key, split, seed: of the cell.
        reason: why this trial and this seed, as a sentence.
        record: of the cell.
        over_seeds: mean, standard deviation and number of the trial's seeds of this split, accuracy in 0 … 1;
            None where there are no validation images.
    """

    trial: int
    key: str
    split: str
    seed: str
    reason: str
    record: Mapping[str, Any]
    over_seeds: Mapping[str, Any] | None

    @property
    def validation(self) -> float | None:
        """Its accuracy on the validation images."""
        value = self.record["metrics"].get("accuracy")
        return None if value is None else float(value)


def choose(
    store: StudyStore,
    ledger: Ledger,
    *,
    trial: int | None = None,
    split: str | None = None,
    seed: str | None = None,
    all_seeds: bool = False,
    prefer: str | None = None,
) -> list[Chosen]:
    """The cells to export: one, or with ``all_seeds`` one for each seed.

    Args:
        store, ledger: records of the study.
        trial: a complete one; by default the first of the ranking.
        split: its label; by default the last of the study, which has most images.
        seed: its label; by default the one that is best on the validation images.
        all_seeds: every seed of that split.
        prefer: instead of ``trial``, a rule that chooses on the Pareto front, see
            ``orchestrator.statistics.preference``.

    Raises:
        InputError: no such trial, split or seed, or a trial that is not complete; or both ``seed`` and
            ``all_seeds``.
    """
    if trial is not None and prefer is not None:
        raise InputError(
            "--trial and --prefer exclude each other", where="--prefer", fix="give one of the two"
        )
    if seed is not None and all_seeds:
        raise InputError(
            "--seed and --all-seeds exclude each other", where="--seed", fix="give one of the two"
        )
    row, why = _trial(store, ledger, trial, prefer)
    splits = list(dict.fromkeys(cell["split"] for cell in row.cells))
    if not splits:
        raise InputError(
            "its record names no cells",
            where=f"trial {row.number}",
            fix=f"run it again: orchestrator sweep {store.name}",
        )
    if split is not None and split not in splits:
        raise _unknown("split", split, splits)
    part = split or splits[-1]
    cells = [cell for cell in row.cells if cell["split"] == part]
    records = ledger.get_many(cell["key"] for cell in cells)
    for cell in cells:
        if cell["key"] not in records:
            raise InputError(
                f"cell {cell['key'][:12]} (split {part}, seed {cell['seed']}) cannot be read",
                where=f"trial {row.number}",
                fix=f"train it again: orchestrator sweep {store.name}",
            )
    values = {cell["seed"]: records[cell["key"]]["metrics"].get("accuracy") for cell in cells}
    seeds, of_seed = _seeds(values, seed, all_seeds)
    measured = [float(value) for value in values.values() if value is not None]
    whole = summarize(measured).to_dict() if len(measured) == len(cells) else None
    return [
        Chosen(
            trial=row.number,
            key=cell["key"],
            split=part,
            seed=cell["seed"],
            reason=f"{why}; {of_seed}",
            record=records[cell["key"]],
            over_seeds=whole,
        )
        for cell in cells
        if cell["seed"] in seeds
    ]


def _trial(
    store: StudyStore, ledger: Ledger, number: int | None, prefer: str | None
) -> tuple[TrialRecord, str]:
    from orchestrator.statistics.pareto import preferred_trial
    from orchestrator.statistics.ranking import ranked_rows

    trials = store.load_trials()
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        raise InputError(
            f"study {store.name!r} has no complete trial, so there is nothing to export",
            where="STUDY",
            fix=f"run it to its end: orchestrator sweep {store.name}",
        )
    if number is not None:
        for trial in trials:
            if trial.number == number and trial.state == "complete":
                return trial, f"trial {number}, as asked for"
        state = next((trial.state for trial in trials if trial.number == number), "unknown")
        raise InputError(
            f"trial {number} is {state}",
            where="--trial",
            fix=f"use a complete one: {', '.join(str(trial.number) for trial in complete)}",
        )
    if prefer is not None:
        chosen = preferred_trial(store, ledger, prefer)
        return next(t for t in complete if t.number == chosen.trial), f"trial {chosen.trial}, {chosen.why}"
    rows = ranked_rows(complete, ledger.get_many(key for trial in complete for key in trial.keys), {})
    if rows[0].competes:
        return rows[0].trial, f"trial {rows[0].trial.number}, the first of the ranking by validation"
    if len(complete) == 1:
        return complete[0], f"trial {complete[0].number}, the only one"
    raise InputError(
        f"study {store.name!r} has no validation images, so none of its {len(complete)} trials is the best",
        where="--trial",
        fix=f"choose one: {', '.join(str(trial.number) for trial in complete)}",
    )


def _seeds(
    values: Mapping[str, float | None], seed: str | None, all_seeds: bool
) -> tuple[Sequence[str], str]:
    """The seeds to export, and why these in words."""
    if all_seeds:
        return list(values), "all of its seeds, one artefact each"
    if seed is not None:
        if seed not in values:
            raise _unknown("seed", seed, list(values))
        return [seed], f"seed {seed}, as asked for"
    measured = {label: value for label, value in values.items() if value is not None}
    if len(measured) < len(values):
        first = next(iter(values))
        return [first], f"seed {first}, the first: there are no validation images to choose by"
    best = max(measured, key=lambda label: measured[label])
    return [best], f"seed {best}, the best of {len(values)} on the validation images"


def _unknown(kind: str, given: str, known: Sequence[str]) -> InputError:
    return InputError(f"the trial has no {kind} {given!r}", where=f"--{kind}", fix=nearest(given, known))
