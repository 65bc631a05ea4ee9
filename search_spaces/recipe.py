"""How the prompt is trained: learning rate, schedule, size of the scales, and any other single key."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal

from search_spaces.errors import SpaceError
from search_spaces.space import Draft, Limits, Space, register
from search_spaces.suggesters import Suggester


@register("learning_rate")
@dataclass(frozen=True, kw_only=True)
class LearningRate(Space):
    """The peak learning rate: log-uniform between ``low`` and ``high``, or one of ``choices``."""

    low: float = 1e-3
    high: float = 1e-1
    choices: tuple[float, ...] | None = None

    independent = True

    def writes(self) -> tuple[str, ...]:
        return ("recipe.lr",)

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        if self.choices is not None:
            draft["recipe"]["lr"] = trial.suggest_categorical("lr", self.choices)
        else:
            draft["recipe"]["lr"] = trial.suggest_float("lr", self.low, self.high, log=True)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        if self.choices is not None:
            _check_choices(self.choices, f"{where}.choices")
            if not all(0 < rate < inf for rate in self.choices):
                raise SpaceError(
                    f"{list(self.choices)} are not all learning rates",
                    where=f"{where}.choices",
                    fix="use rates above 0",
                )
        elif not 0 < self.low < self.high < inf:
            raise SpaceError(
                f"low={self.low:g}, high={self.high:g} is not a range",
                where=f"{where}.low",
                fix="use 0 < low < high, or a list of choices",
            )


@register("schedule")
@dataclass(frozen=True, kw_only=True)
class Schedule(Space):
    """The learning rate over the epochs: its schedule, and optionally how many epochs warm up."""

    schedule: tuple[Literal["cosine", "constant"], ...] = ("cosine", "constant")
    warmup_epochs: tuple[int, ...] | None = None

    independent = True

    def writes(self) -> tuple[str, ...]:
        return ("recipe.schedule", *(("recipe.warmup_epochs",) if self.warmup_epochs is not None else ()))

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        draft["recipe"]["schedule"] = trial.suggest_categorical("schedule", self.schedule)
        if self.warmup_epochs is not None:
            draft["recipe"]["warmup_epochs"] = trial.suggest_categorical("warmup_epochs", self.warmup_epochs)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        _check_choices(self.schedule, f"{where}.schedule")
        epochs = draft["recipe"]["epochs"]
        if self.warmup_epochs is not None:
            _check_choices(self.warmup_epochs, f"{where}.warmup_epochs")
        for warmup in self.warmup_epochs or ():
            if not 0 <= warmup < epochs:
                raise SpaceError(
                    f"{warmup} warm-up epochs do not fit into recipe.epochs={epochs}",
                    where=f"{where}.warmup_epochs",
                    fix=f"use 0 to {epochs - 1}",
                )


@register("scale_init")
@dataclass(frozen=True, kw_only=True)
class ScaleInit(Space):
    """The size at which MmAP's scaling matrices start, a coarse choice.

    Prompts enter through LayerNorm only, so above its epsilon the learning rate and this size act as one
    number, lr/σ²: searching both finely searches the same thing twice. ``null``: see MmapSettings.
    """

    choices: tuple[float | None, ...] = (None, 0.02)

    independent = True

    def writes(self) -> tuple[str, ...]:
        return ("settings.scale_init",)

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        draft["settings"]["scale_init"] = trial.suggest_categorical("scale_init", self.choices)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        _check_choices(self.choices, f"{where}.choices")
        for size in self.choices:
            if size is not None and not 0 < size < inf:
                raise SpaceError(
                    f"{size} is not a standard deviation",
                    where=f"{where}.choices",
                    fix="use sizes above 0, or null",
                )


@register("choice")
@dataclass(frozen=True, kw_only=True)
class Choice(Space):
    """One key of the point from a list: ``{name: choice, key: recipe.weight_decay, choices: [0, 5e-4]}``."""

    key: str
    choices: tuple[Any, ...]

    independent = True

    def writes(self) -> tuple[str, ...]:
        return (self.key,)

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        section, _, name = self.key.partition(".")
        draft[section][name] = trial.suggest_categorical(name, self.choices)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        _check_choices(self.choices, f"{where}.choices")
        for value in self.choices:
            endless = isinstance(value, float) and not isfinite(value)
            if endless or not isinstance(value, str | int | float | bool | None):
                raise SpaceError(
                    f"{value!r} is not a single value",
                    where=f"{where}.choices",
                    fix="use numbers, words or null",
                )


def _check_choices(choices: tuple[Any, ...], where: str) -> None:
    if not choices or len({repr(c) for c in choices}) < len(choices):
        raise SpaceError(
            f"{list(choices)} is not a list of different values", where=where, fix="list each candidate once"
        )
