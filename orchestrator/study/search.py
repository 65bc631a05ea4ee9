"""How a space is searched, and for how long: the key ``search``."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from orchestrator.statistics.objectives import Aim, Objective
from orchestrator.study.errors import StudyError
from orchestrator.study.fields import ToTuple
from orchestrator.study.sampler import check_sampler, kind_of
from orchestrator.study.scheduler import STAGED, VERSION, VERSIONED, Scheduler
from orchestrator.study.strict import Strict


class Search(Strict):
    """How the space is searched, and for how long."""

    added = frozenset(
        {
            "sampler_options",
            "objectives",
            "constraints",
            "scheduler_version",
            "warm_start",
            "warm_start_best",
        }
    )

    sampler: str = "tpe"
    """Proposes configurations: ``tpe``, ``random``, ``grid`` (every point; for spaces without continuous
    parameters), ``gp``, ``qmc``, ``nsga2``, ``nsga3``, ``cmaes`` (for ranges of numbers alone), or a sampler
    of Optuna's kind as ``optuna.samplers:Class`` or ``file.py:MySampler``. See docs/search.md."""
    sampler_options: dict[str, Any] = Field(default={})
    """Of the sampler, by the names that Optuna gives them: ``n_startup_trials``, ``population_size``."""
    objectives: Annotated[tuple[str, ...], ToTuple] = ("accuracy",)
    """What to search for, on validation images: ``accuracy`` alone, or several of ``accuracy``,
    ``parameters``, ``worst_task``, ``ece``, ``nll``, ``device_seconds``. A minus says that less is better, as
    it is by itself of all but accuracies: ``[accuracy, -parameters]``. With several nothing is stopped
    early."""
    constraints: Annotated[tuple[str, ...], ToTuple] = ()
    """What a winner must fulfil, by the same names: ``["parameters<=20000", "worst_task>=0.3"]``. Trials that
    do not are trained and marked; ``tpe``, ``gp``, ``nsga2`` and ``nsga3`` learn to avoid them."""
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
    """Stops weak trials early (docs/stopping.md). ``asha`` compares them at the distinct
    ⌈epochs / reduction_factorⁱ⌉, not
    before the second epoch after the warm-up (``grace_period``: not before that epoch); ``seeds`` trains one
    seed first (``first``: so many), and further ones only of trials that may become the best. Both allow for
    the noise of the seeds: a trial is stopped if the chance that it should not be is below ``chance``, 0.2.
    ``median`` stops what is below the median of all (after ``min_samples_required`` trials, 3). Schedulers of
    Ray Tune that only stop trials can be given as ``ray.tune.schedulers:Class``, your own as
    ``file.py:MyScheduler``, with their arguments as options."""
    scheduler_version: int | None = Field(default=None, validate_default=True, ge=1, le=VERSION)
    """Of the rule of ``asha`` and ``median``, when the study began; filled in."""
    reduction_factor: int = Field(default=3, ge=2)
    """Between two rungs: of ``asha``, one trial in so many passes a rung whatever the noise; of ``seeds``, a
    stage has up to so many times the seeds of the one before."""
    max_params: int | None = Field(default=None, ge=1)
    """Most trained parameters of a configuration, counted at the largest number of groups it can come to."""
    preset: bool = True
    """Try the paper's configuration first, each value the nearest that the space offers."""
    enqueue: Annotated[tuple[dict[str, Any], ...], ToTuple] = ()
    """Points to try next, by parameter names; what one leaves out is as in the paper's."""
    warm_start: Annotated[tuple[str, ...], ToTuple] = ()
    """Studies to begin from, of the same method: by name in the same storage, or by path such as
    ``/shared/runs/studies/demo``. Their best points that are valid here are tried after ``enqueue``, and
    their trials teach the sampler where parameters and values agree. None of their numbers enters the
    ranking. What was taken is recorded when the study first runs."""
    warm_start_best: int = Field(default=3, ge=0)
    """How many points of each of those studies to try."""
    per_split: bool = False
    """Not available: one search serves the mean over all splits."""

    @field_validator("scheduler_version")
    @classmethod
    def _version_of_rule(cls, value: int | None, info: ValidationInfo) -> int | None:
        """None where nothing depends on it."""
        scheduler = info.data.get("scheduler")
        if scheduler is None or scheduler.name not in VERSIONED:
            return None
        return VERSION if value is None else value

    @property
    def is_staged(self) -> bool:
        """Whether the driver decides what is stopped; otherwise a scheduler of Ray Tune does."""
        return self.scheduler.name in STAGED and self.scheduler_version != 1

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

    @model_validator(mode="after")
    def _search_is_possible(self) -> Self:
        check_sampler(self.sampler, self.sampler_options)
        aim = self.aim
        if not aim.several and aim.objectives != (Objective("accuracy", True),):
            raise StudyError(
                f"{self.objectives[0]} is the only objective, and configurations are ranked by accuracy",
                where="search.objectives",
                fix=f"use [accuracy, {self.objectives[0]}]",
            )
        if aim.several and self.scheduler.name != "none":
            raise StudyError(
                f"{self.scheduler.name} stops trials by one value of {len(aim.objectives)} objectives",
                where="search.scheduler",
                fix="use scheduler: none, or objectives: [accuracy] with the others as constraints",
            )
        if aim.several and not kind_of(self.sampler).several:
            raise StudyError(
                f"{self.sampler} takes one objective, and there are {len(aim.objectives)}",
                where="search.sampler",
                fix="use sampler: tpe, gp, nsga2 or nsga3",
            )
        return self

    @cached_property
    def aim(self) -> Aim:
        """What is searched for, and what a winner must fulfil."""
        return Aim.of(self.objectives, self.constraints)
