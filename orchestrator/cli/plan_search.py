"""What ``orchestrator plan`` says of the search: sampler, objectives, constraints, warm start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.study import StudyPlan


def describe_search(plan: StudyPlan) -> dict[str, Any]:
    """Keys of the plan: ``sampler``, ``objectives``, ``constraints``, ``warm_start``.

    Raises:
        InputError: a study of ``search.warm_start`` cannot be begun from.
    """
    from orchestrator.driver.warm_start import recorded_or_found
    from orchestrator.ledger import StudyStore
    from orchestrator.study.sampler import kind_of

    search = plan.study.search
    kind = kind_of(search.sampler)
    random_until = None
    if kind.startup is not None:
        option, default = kind.startup
        random_until = {"option": option, "trials": search.sampler_options.get(option, default)}
    taken: list[dict[str, Any]] = []
    recorded = False
    if search.warm_start:
        found, recorded = recorded_or_found(plan, StudyStore(plan.study.storage, plan.study.name))
        taken = [
            {
                "study": source.study,
                "enqueued": [plan.space.values(point["params"]) for point in source.enqueued],
                "fed": len(source.fed),
                "notes": list(source.notes),
                "words": source.in_words,
            }
            for source in found.sources
        ]
    return {
        "sampler": {
            "name": search.sampler,
            "options": dict(search.sampler_options),
            "random_until": random_until,
            "constraints": kind.constraints,
        },
        "objectives": [each.label for each in search.aim.objectives],
        "constraints": [each.label for each in search.aim.constraints],
        "warm_start": taken,
        "warm_start_recorded": recorded,
    }


def search_rows(found: Mapping[str, Any]) -> dict[str, str]:
    """The same in words, line by line."""
    sampler, objectives = found["sampler"], found["objectives"]
    rows = {"sampler": _sampler(sampler, found["trials"])}
    if objectives != ["accuracy"]:
        rows["objectives"] = ", ".join(objectives)
    if found["constraints"]:
        heeded = "" if sampler["constraints"] else f"; {sampler['name']} ignores them"
        rows["constraints"] = ", ".join(found["constraints"]) + heeded
    when = "taken at the start" if found["warm_start_recorded"] else "would be taken now"
    for index, source in enumerate(found["warm_start"]):
        rows["warm start" + " " * index] = f"{source['words']} ({when})"
    return rows


def _sampler(sampler: Mapping[str, Any], trials: int) -> str:
    """``tpe; draws at random until 10 trials are complete``."""
    options = ", ".join(f"{name} {value}" for name, value in sampler["options"].items())
    name = f"{sampler['name']} ({options})" if options else str(sampler["name"])
    until = sampler["random_until"]
    if until is None or until["trials"] < 2:
        return name
    all_of_it = f": all of this study ({until['option']})" if until["trials"] >= trials else ""
    return f"{name}; draws at random until {until['trials']} trials are complete{all_of_it}"
