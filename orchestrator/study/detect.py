"""How many seeds tell two configurations of a study apart, from what studies before it varied by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmap_model.backbone_identity import fingerprint_is_known
from orchestrator.redaction import shown_uri
from orchestrator.statistics.noise import ResidualNoise, combined, pooled_noise
from orchestrator.statistics.power import MOST, POWER, detectable, seeds_needed
from orchestrator.statistics.summary import CONFIDENCE
from orchestrator.study.errors import StudyError
from orchestrator.study.estimate import estimate

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.study.plan import StudyPlan

LIMIT = 0.8
"""Probability with which the noise is at most what the number of seeds rests on."""

POINT = 0.01


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What it takes to tell a difference apart.

    Attributes:
        points: the difference, in points of accuracy.
        power, level: of the paired t-test, two-sided.
        noise: residual standard deviation, in points.
        nu: its degrees of freedom; None where it is assumed.
        noise_limit: what the noise does not exceed with probability ``LIMIT``, in points.
        studies: whose trials it was estimated from; empty where it is assumed.
        seeds, seeds_at_noise: needed if the noise is at its limit, and if it is as estimated; None: more than
            `MOST`.
        shown: the difference, in points, that the seeds of the study show; None of one seed.
        configurations, splits: whose product by ``seeds`` is ``cells``: as many as ``confirm`` trains.
        cells: None where there is no number of seeds.
        device_hours, gpu_hours: that ``cells`` take; None where nothing like them was trained.
    """

    points: float
    power: float = POWER
    level: float = round(1 - CONFIDENCE, 6)
    noise: float
    nu: int | None
    noise_limit: float
    studies: tuple[str, ...]
    seeds: int | None
    seeds_at_noise: int | None
    shown: float | None
    configurations: int
    splits: int
    cells: int | None
    device_hours: float | None
    gpu_hours: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "studies": list(self.studies)}


def detect(plan: StudyPlan, points: float, assumed: float | None = None) -> Detection:
    """Say what it takes to tell two configurations apart that differ by ``points``.

    Args:
        plan: of the study.
        points: of accuracy, more than 0.
        assumed: residual standard deviation in points, in place of that of recorded studies.

    Raises:
        StudyError: a number that means nothing, or no study of these data and weights is recorded and nothing
            is assumed.
    """
    _require(points, "--detect", "give points of accuracy: --detect 1")
    if assumed is not None:
        _require(assumed, "--noise", "give points of accuracy: --noise 1.2")
    noise, studies = (None, ()) if assumed is not None else _recorded(plan)
    if noise is None and assumed is None:
        raise StudyError(
            f"nothing in {shown_uri(plan.study.storage)} tells how much configurations of these data and "
            "weights vary over seeds: that takes two complete trials on two seeds",
            where="--detect",
            fix="run a sweep first, give storage=… of one, or say what you assume in points: --noise 1.2",
        )
    s = noise.s if noise is not None else (assumed or 0.0) * POINT
    limit = noise.upper(LIMIT) if noise is not None else s
    seeds = seeds_needed(points * POINT, limit)
    study, configurations = plan.study, max(2, plan.study.finalists)
    cells = None if seeds is None else configurations * len(study.splits) * seeds
    known = None if cells is None else estimate(plan, cells)
    return Detection(
        points=points,
        noise=s / POINT,
        nu=None if noise is None else noise.nu,
        noise_limit=limit / POINT,
        studies=studies,
        seeds=seeds,
        seeds_at_noise=seeds_needed(points * POINT, s),
        shown=detectable(limit, len(study.seeds)) / POINT if len(study.seeds) > 1 and limit > 0 else None,
        configurations=configurations,
        splits=len(study.splits),
        cells=cells,
        device_hours=None if known is None else known[0],
        gpu_hours=None if known is None or plan.slots is None else known[0] * plan.slots.gpus,
    )


def in_words(found: Detection, place: str) -> dict[str, str]:
    """What is said of it, by name.

    Args:
        found: what is said.
        place: where studies are recorded, as shown.
    """
    from orchestrator.tables.words import duration, enumeration, integer

    sure = f"paired t-test, {100 * found.level:.0f} % two-sided, {100 * found.power:.0f} % power"
    if found.nu is None:
        noise = f"residual s of {found.noise:.2f} points, as assumed"
    else:
        count = len(found.studies)
        names = f"{count} studies" if count > 3 else enumeration(found.studies)
        noise = (
            f"residual s of {found.noise:.2f} points with {found.nu} degrees of freedom, from {names} in "
            f"{place}; at most {found.noise_limit:.2f} ({100 * LIMIT:.0f} % limit)"
        )
    said = {"to tell apart": f"{found.points:g} points between two configurations ({sure})", "noise": noise}
    if found.seeds is None:
        said["seeds needed"] = f"more than {integer(MOST)}"
    else:
        less = "" if found.seeds == found.seeds_at_noise else f" ({found.seeds_at_noise} if it is s itself)"
        said["seeds needed"] = f"{found.seeds}{less}"
        if found.nu is not None and less:
            said["seeds needed"] = f"{found.seeds} if the noise is at its limit{less}"
        hours = (
            "" if found.device_hours is None else f", about {duration(3600 * found.device_hours)} of device"
        )
        gpus = f", {found.gpu_hours:.3g} GPU-hours" if found.gpu_hours else ""
        said["to confirm"] = (
            f"{found.configurations} finalists × {found.splits} split{'s' * (found.splits > 1)} × "
            f"{found.seeds} seeds = "
            f"{integer(found.cells)} cells{hours}{gpus}"
        )
    if found.shown is not None:
        said["as it is"] = f"the seeds of this study show differences of {found.shown:.1f} points or more"
    return said


def _require(points: float, where: str, fix: str) -> None:
    if not 0 < points <= 100:
        raise StudyError(
            f"expected a positive number of points of accuracy, not {points:g}", where=where, fix=fix
        )


def _recorded(plan: StudyPlan) -> tuple[ResidualNoise | None, tuple[str, ...]]:
    """The noise of all studies of these data and weights in the storage, and their names."""
    from orchestrator.ledger import Ledger, open_storage

    if not fingerprint_is_known(plan.study.backbone):
        return None, ()
    ledger = Ledger(open_storage(plan.study.storage))
    found = dict(_noises(plan, ledger))
    return combined(found.values()), tuple(found)


def _noises(plan: StudyPlan, ledger: Ledger) -> Iterator[tuple[str, ResidualNoise]]:
    from orchestrator.ledger import StudyStore
    from orchestrator.statistics.estimates import seed_table
    from orchestrator.statistics.ranking import ranked_rows, significance

    for name in ledger.storage.names("studies"):
        trials = [t for t in StudyStore(ledger.storage, name).load_trials() if t.state == "complete"]
        records = ledger.get_many(key for trial in trials for key in trial.keys)
        alike = {
            key: record
            for key, record in records.items()
            if (record["cell"]["dataset"], record["cell"]["backbone"])
            == (plan.data.manifest, plan.fingerprint)
        }
        rows = ranked_rows(trials, alike, {})
        noise = pooled_noise(seed_table(rows, significance(rows)))
        if noise is not None:
            yield name, noise
