"""What a study means for whoever has to decide: which configuration, how sure, what an hour more would buy.

A value made of what ``statistics.ranking.build_results`` returns; terminals, pages and notifications show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.commands import command
from orchestrator.statistics.power import POWER, detectable
from orchestrator.tables.words import (
    NBSP,
    chance,
    enumeration,
    integer,
    interval,
    share,
    signed,
)

Results = Mapping[str, Any]
Line = Mapping[str, Any]

SURE = 0.95
"""Probability of being best from which more seeds are not the next thing to ask for."""

NAMED = 5
"""Trials that are named where more are alike."""

FINALISTS = 3
"""Trials that are trained on further seeds at most."""

MEANINGS = {
    "method": "method",
    "prompt_length": "prompt length",
    "source_rows": "source",
    "scale_init": "initial size",
    "lr": "learning rate",
    "groups": "groups",
    "weight_decay": "weight decay",
    "warmup_epochs": "warm-up epochs",
    "similarity": "similarity",
    "objective": "grouping objective",
}
"""Settings in words, in the order in which they are named; other settings follow by their names."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that is said.

    Attributes:
        name: what it is about, in a word or two.
        text: one sentence or more, plain text.
    """

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a study found, in sentences.

    Attributes:
        trial: number of the winner; None if there is none.
        probability: that it is the best of the complete trials; None where that is unknown.
        statements: the most important first.
        why: reason for what to do next.
        next: what to do next as a command line; None where nothing sensible is known.
    """

    trial: int | None = None
    probability: float | None = None
    statements: tuple[Statement, ...]
    why: str
    next: str | None = None

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Names and texts, the reason for the next step last."""
        return [*((f"{each.name}:", each.text) for each in self.statements), ("Next:", self.why)]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The next step, as commands are listed."""
        return [] if self.next is None else [("Next", self.next)]


def verdict(results: Results) -> Verdict:
    """Judge a study by its results.

    Args:
        results: of ``build_results``.
    """
    complete = _in_order(results)
    if not complete:
        return _without_winner(results)
    best = complete[0]
    probability = (best.get("estimate") or {}).get("best")
    why, following = _next(results, complete, probability)
    return Verdict(
        trial=best["number"],
        probability=probability,
        statements=tuple(
            Statement(name=name, text=text)
            for name, text in [
                ("Winner", _winner(best, complete)),
                ("Accuracy", _accuracy(best, results)),
                *_gain(best, results),
                *_how_sure(best, complete, results),
                *_stable(results),
                *_hour(complete, results),
            ]
        ),
        why=why,
        next=following,
    )


def _in_order(results: Results) -> list[Line]:
    """Complete trials that meet the constraints of the study, the first first.

    Of a race those that still stand come first, by their estimates: the others have fewer seeds.
    """
    complete = [
        t for t in results["trials"] if t["state"] == "complete" and t.get("val") and not t.get("violated")
    ]
    if standing := set((results.get("race") or {}).get("standing") or ()):
        complete.sort(key=lambda t: (t["number"] not in standing, -_estimate(t)))
    return complete


def _estimate(trial: Line) -> float:
    found = trial.get("estimate") or trial["val"]
    return float(found.get("shrunk", found["mean"]))


def settings_in_words(config: Mapping[str, Any], names: Iterable[str] = ()) -> str:
    """``prompt length 4, source 4 × 32, learning rate 0.0035`` of a trial's settings.

    Args:
        config: settings by name.
        names: those that are named; by default all.
    """
    wanted = set(names) or set(config)
    parts = {name: _setting(name, config[name]) for name in config if name in wanted}
    if {"source_rows", "source_cols"} <= config.keys() and wanted & {"source_rows", "source_cols"}:
        parts.pop("source_cols", None)
        parts["source_rows"] = f"source {config['source_rows']} × {config['source_cols']}"
    order = [*MEANINGS, *parts]
    return ", ".join(
        part.replace(" ", NBSP) for _, part in sorted(parts.items(), key=lambda pair: order.index(pair[0]))
    )


def _setting(name: str, value: Any) -> str:
    shown = "automatic" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    if isinstance(value, bool):
        shown = "on" if value else "off"
    return f"{MEANINGS.get(name, name.replace('_', ' '))} {shown.replace('_', ' ')}"


def _winner(best: Line, complete: Sequence[Line]) -> str:
    config = best.get("config") or {}
    varied = [name for name in config if len({repr((t.get("config") or {}).get(name)) for t in complete}) > 1]
    words = settings_in_words(config, varied or [name for name in MEANINGS if name in config])
    count, part = best.get("parameters"), best.get("share")
    size = "" if count is None else f"; {integer(count)} trained parameters"
    size += f", {share(part)} of the CLIP" if count and part is not None else ""
    return f"trial {best['number']}{': ' if words else ''}{words}{size}"


def _accuracy(best: Line, results: Results) -> str:
    """The mean as measured, and what is left of it once it is accounted for that it was selected."""
    value, estimate = best["val"], best.get("estimate") or {}
    over = f" over {value['n']} seeds" if value["n"] > 1 else " on one seed"
    text = f"{100 * value['mean']:.1f}{NBSP}% on validation{over}"
    if estimate.get("low") is None:
        return text
    return (
        f"{text}; corrected for the luck of being selected "
        f"{100 * estimate['shrunk']:.1f}{NBSP}% (95{NBSP}% interval {100 * estimate['low']:.1f} to "
        f"{100 * estimate['high']:.1f}, on these seeds)"
    )


def _gain(best: Line, results: Results) -> Iterator[tuple[str, str]]:
    """Over zero-shot: on test images where they were looked at, otherwise on those that selected."""
    test = (results.get("test_gains") or {}).get("zero_shot")
    validation = best.get("gain")
    for gain, images in ((test, "test"), (validation, "validation")):
        if gain is not None:
            between = interval(gain.get("low"), gain.get("high"))
            sure = "" if gain.get("low") is None else f" (95{NBSP}% interval {between})"
            yield "Gain", f"{signed(gain['mean'])} points over zero-shot on {images} images{sure}"
            return


def _how_sure(best: Line, complete: Sequence[Line], results: Results) -> Iterator[tuple[str, str]]:
    comparison = results.get("comparison") or {}
    probability = (best.get("estimate") or {}).get("best")
    if probability is not None:
        sure = f"it is the best of the {_many(results)} with probability {chance(probability)}"
        yield "Confidence", sure + _next_best(complete)
    elif len(complete) > 1:
        yield (
            "Confidence",
            "unknown: "
            + (
                "with one seed there is no spread to compare a difference with"
                if best["val"]["n"] < 2
                else "its spread over the seeds differs too much from that of the others"
            ),
        )
    possible = [t["number"] for t in complete[1:] if t.get("could_be_best")]
    equal = [t["number"] for t in complete[1:] if t.get("separable_from_best") is False]
    if equal:
        also = f"; {_trials(possible)} could be the best as well" if possible else ""
        yield (
            "Undecided",
            f"{_trials(equal)} cannot be told apart from it: differences below "
            f"{100 * comparison['threshold']:.1f} points may be chance here{also}",
        )
    elif comparison.get("threshold") is not None:
        yield "Undecided", "nothing: every other complete trial is significantly worse"


def _next_best(complete: Sequence[Line]) -> str:
    second = complete[1] if len(complete) > 1 else None
    estimate = (second or {}).get("estimate") or {}
    if second is None or estimate.get("best") is None:
        return ""
    behind = complete[0]["estimate"]["shrunk"] - estimate["shrunk"]
    return (
        f"; the next, trial {second['number']}, is {100 * behind:.1f} points behind by the same estimate "
        f"({chance(estimate['best'])})"
    )


def _stable(results: Results) -> Iterator[tuple[str, str]]:
    """Whether the choice hangs on one seed."""
    found = results.get("stability")
    if not found or results.get("race"):
        return
    others = {seed: first for seed, first in found["without"].items() if first != found["winner"]}
    if others:
        cases = [f"without seed {seed} trial {first} is first" for seed, first in others.items()]
        yield "Seeds", f"Warning: the choice hangs on {_seeds(others)}: {enumeration(cases)}"
    else:
        yield "Seeds", "leaving out any one seed, the same trial is first"


def _hour(complete: Sequence[Line], results: Results) -> Iterator[tuple[str, str]]:
    """What one more hour at the pace so far would buy: seeds for the finalists, or further trials."""
    pace, noise = results.get("pace"), (results.get("estimation") or {}).get("noise")
    if not pace or not noise or not noise["s"]:
        return
    finalists = max(2, min(FINALISTS, sum(bool(t.get("could_be_best")) for t in complete)))
    splits = max(1, len(complete[0].get("per_split") or {}))
    seeds = int(pace["cells"] / (finalists * splits))
    parts = []
    if seeds >= 2:
        parts.append(
            f"{seeds} further seeds for {finalists} finalists, which show a difference of "
            f"{100 * detectable(noise['s'], seeds):.1f} points with probability {chance(POWER)}"
        )
    if (further := int(pace["trials"])) >= 1:
        # Of k + m exchangeable trials the best is among the last m with probability m/(k + m).
        better = further / (len(complete) + further)
        parts.append(
            f"{further} more trials, with a chance of {chance(better)} that one is better than all so far if "
            "they are as good as these"
        )
    if parts:
        yield "One hour", f"more of this machine buys {', or '.join(parts)}"


def _next(results: Results, complete: Sequence[Line], probability: float | None) -> tuple[str, str]:
    name, storage = results["study"], results["storage"]
    race = results.get("race") or {}
    if race and "problem" not in race:
        return _after_race(race, complete, storage)
    if len(complete) == 1 or (probability is not None and probability >= SURE):
        why = "it is the only complete trial" if len(complete) == 1 else "the choice is clear enough"
        return (
            f"export the winner; {why}",
            command("export", name, "--format", "classifier", "--out", f"{name}-winner", storage=storage),
        )
    return (
        "race the finalists on seeds that the search has not seen",
        command("confirm", name, "--race", storage=storage),
    )


def _after_race(race: Line, complete: Sequence[Line], storage: str) -> tuple[str, str]:
    """Go on with a race, or export who is left of it, from the study that searched."""
    search, first = race["of"]["study"], str(complete[0]["number"])
    if race.get("end") is None:
        return "go on with the race", command("confirm", search, "--race", storage=storage)
    left = (
        "it is left of the race" if len(race["standing"]) == 1 else "the race left several; this is the first"
    )
    options = ("--trial", first, "--format", "classifier", "--out", f"{search}-winner")
    return f"export trial {first}; {left}", command("export", search, *options, storage=storage)


def _without_winner(results: Results) -> Verdict:
    if any(t.get("violated") for t in results["trials"] if t["state"] == "complete"):
        return Verdict(
            statements=(
                Statement(name="Winner", text="none: no complete trial meets the constraints of the study"),
            ),
            why="see how near they are",
            next=command("results", results["study"], "--pareto", storage=results["storage"]),
        )
    tested = [t for t in results["trials"] if t["state"] == "complete" and t.get("test")]
    if tested:
        return Verdict(
            statements=(
                Statement(name="Winner", text="none: without validation images no trial may be selected"),
            ),
            why="choose by a search with validation images, or export a trial by its number",
            next=None,
        )
    return Verdict(
        statements=(Statement(name="Winner", text="none yet: no trial is complete"),),
        why="see how far it is",
        next=command("status", results["study"], storage=results["storage"]),
    )


def _many(results: Results) -> str:
    count = len(_in_order(results))
    return f"{count} complete trials" if count > 1 else "one complete trial"


def _trials(numbers: Sequence[int]) -> str:
    """``trial 7``, ``trials 7 and 6``, ``trials 7, 6, 5, 3, 2 and 12 more``."""
    shown = [str(number) for number in numbers[:NAMED]]
    if len(numbers) > NAMED:
        shown.append(f"{len(numbers) - NAMED} more")
    return f"trial{'s' * (len(numbers) > 1)} {enumeration(shown)}"


def _seeds(seeds: Iterable[str]) -> str:
    names = list(seeds)
    return f"seed{'s' * (len(names) > 1)} {enumeration(names)}"
