"""How a space is searched, and for how long: the key ``search``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from orchestrator.study.errors import StudyError
from orchestrator.study.fields import ToTuple
from orchestrator.study.scheduler import Scheduler
from orchestrator.study.strict import Strict


class Search(Strict):
    """How the space is searched, and for how long."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """``grid`` goes through every point and needs a space without continuous parameters."""
    trials: int = Field(default=20, ge=1)
    """Configurations to try. May be raised on a rerun."""
    hours: float | None = Field(default=None, gt=0)
    """Hours of wall clock after which no further trial starts; those in work finish. Summed over reruns, what
    lies between them does not count. May be changed on a rerun."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """The same for GPU-hours: time in which slots work, times the GPUs of a slot."""
    seed: int = Field(default=1, ge=0)
    """Of the sampler; trial i draws from (seed, i)."""
    scheduler: Scheduler = Scheduler(name="none")
    """Stops weak trials early, though not before 60 % of the epochs (``grace_period`` sets another epoch):
    ``asha`` keeps the best of those that came so far, ``median`` (after ``min_samples_required`` trials, 3)
    those not below the median of all; it looks through all earlier trials at every epoch. Schedulers of Ray
    Tune that only stop trials can be given as ``ray.tune.schedulers:Class``, your own as
    ``file.py:MyScheduler``, with their arguments as options."""
    reduction_factor: int = Field(default=3, ge=2)
    """Of asha: one in so many trials passes a rung."""
    max_params: int | None = Field(default=None, ge=1)
    """Most trained parameters of a configuration, counted at the largest number of groups it can come to."""
    preset: bool = True
    """Try the paper's configuration first, each value the nearest that the space offers."""
    enqueue: Annotated[tuple[dict[str, Any], ...], ToTuple] = ()
    """Points to try next, by parameter names; what one leaves out is as in the paper's."""
    per_split: bool = False
    """Not available: one search serves the mean over all splits."""

    @field_validator("per_split")
    @classmethod
    def _one_search(cls, value: bool) -> bool:
        if value:
            raise StudyError(
                "one search cannot rank each split by itself",
                where="search.per_split",
                fix="run one study per split: name=… 'splits=[{shots: 3}]'",
            )
        return value
