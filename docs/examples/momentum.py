"""Momentum, searched as one minus a power of one half."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces import Draft, Limits, Space, SpaceError, Suggester


@dataclass(frozen=True, kw_only=True)
class Momentum(Space):
    """What a study may give beside the name.

    Attributes:
        halvings: how often 1 is halved to give one minus the momentum; each 1 or more.
    """

    halvings: tuple[int, ...] = (1, 2, 3, 4)

    def writes(self) -> tuple[str, ...]:
        return ("recipe.momentum",)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        if not self.halvings or min(self.halvings) < 1:
            raise SpaceError(
                f"{list(self.halvings)} is not allowed",
                where=f"{where}.halvings",
                fix="use 1 or more",
            )

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        choices = tuple(1 - 0.5**number for number in self.halvings)
        draft["recipe"]["momentum"] = trial.suggest_categorical("momentum", choices)
