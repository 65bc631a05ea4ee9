"""What a study is, as opposed to how far and where it runs: the part that a rerun may not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmap_model.methods import get_method
from orchestrator.study.errors import StudyError
from orchestrator.study.model import Study
from orchestrator.study.scheduler import VERSION

MAY_CHANGE = (
    "backbone.activation",
    "description",
    "compare",
    "compute",
    "dataset.root",
    "dataset.lists",
    "dataset.excluded",
    "dataset.store",
    "dataset.links",
    "fuse",
    "slots",
    "finalists",
    "storage",
    "tracking",
    "notify",
    "search.trials",
    "search.hours",
    "search.gpu_hours",
    "largest_shots",
)
"""Dotted keys outside the identity. Trials may only rise; ``largest_shots`` counts by what it comes to;
the data may move because the manifest in every cell's key says whether they are the same; what is stated of
the weights may be added because their fingerprint there says so too."""

COMPARISON = "compare-"
"""Begins the name under which a comparison is recorded. It has no identity: each run may ask for more seeds,
splits or other settings, since its rows are kept by what they are."""


def identity(study: Study) -> dict[str, Any]:
    """Everything that decides what is trained and how it is ranked, by dotted key.

    Two studies with equal identity may share records. Keys: the space, the fixed point, data, splits, seeds,
    protocol, precision, and the search (sampler, seed, scheduler, budget, enqueued points).
    """
    flat = {
        key: value
        for key, value in _flatten(study.to_plain(), "")
        if not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
    }
    flat["method"] = get_method(study.method).name
    flat["largest_shots"] = study.shots_before_validation
    return flat


def continued(study: Study, stored: Study) -> Study:
    """Return the study as what is ``stored`` goes on: by the rule that it was begun with.

    An earlier one that ``study`` asks for stays, and ``check_rerun`` refuses it where it is another.
    """
    search, version = study.search, stored.search.scheduler_version
    if search.scheduler_version != VERSION or search.scheduler != stored.search.scheduler:
        return study
    return study.model_copy(update={"search": search.model_copy(update={"scheduler_version": version})})


def differences(stored: Study, new: Study) -> list[tuple[str, Any, Any]]:
    """Dotted keys of the identity that differ, with the stored and the new value."""
    old, now = identity(stored), identity(new)
    return [(key, old.get(key), now.get(key)) for key in {**old, **now} if old.get(key) != now.get(key)]


def check_rerun(stored: Study, new: Study) -> None:
    """Raise StudyError, naming key and both values, if ``new`` cannot continue what is ``stored``."""
    changed = differences(stored, new)
    if changed:
        key, old, now = changed[0]
        others = ", ".join(k for k, _, _ in changed[1:4]) + (" …" if len(changed) > 4 else "")
        hint = "extra seeds belong to: orchestrator confirm --seeds; or " if key.startswith("seeds") else ""
        raise StudyError(
            f"study {new.name!r} is stored with {_shown(old)}, now it is {_shown(now)}"
            + (f" (and {others} differ)" if others else ""),
            where=key,
            fix=f"{hint}set it back, or give the changed study another name: name={new.name}-2",
        )
    if new.search.trials < stored.search.trials:
        raise StudyError(
            f"study {new.name!r} is stored with {stored.search.trials} trials, now it is {new.search.trials}",
            where="search.trials",
            fix=f"use {stored.search.trials} or more",
        )


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
