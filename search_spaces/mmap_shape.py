"""The shape of MmAP: prompt length b, source rows m, source columns n (paper, eq. 6-7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

from mmap_model.methods import get_method
from mmap_model.methods.mmap import MmapSettings, divisors
from search_spaces.errors import SpaceError
from search_spaces.space import Draft, Limits, Space, register
from search_spaces.suggesters import Suggester, conditional_name

Shapes = dict[int, dict[int, tuple[int, ...]]]
"""Admissible source columns by prompt length and source rows."""


@register("mmap_shape")
@dataclass(frozen=True, kw_only=True)
class MmapShape(Space):
    """Prompt length, source rows and source columns, valid by construction and within ``max_params``.

    Attributes:
        prompt_length: candidates for b.
        source_rows: candidates for m, of which the divisors of b are offered; None: all divisors.
        source_cols: candidates for n, divisors of gcd(d_l, d_v); None: all of them.
    """

    prompt_length: tuple[int, ...] = (4, 6, 8, 10, 12, 14, 16, 18, 20)
    source_rows: tuple[int, ...] | None = None
    source_cols: tuple[int, ...] | None = None

    independent = True

    def writes(self) -> tuple[str, ...]:
        return ("settings.prompt_length", "settings.source_rows", "settings.source_cols")

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        settings = draft["settings"]
        shapes = _shapes(self, limits, settings.get("modules", "both"))
        # Only a budget makes choices depend on more than b, so only then does the name say so.
        budget = {} if limits.max_params is None else {"modules": settings.get("modules", "both")}
        if budget.get("modules") == "both":
            budget = {}
        b = trial.suggest_categorical(conditional_name("prompt_length", **budget), tuple(shapes))
        m = trial.suggest_categorical(conditional_name("source_rows", b=b, **budget), tuple(shapes[b]))
        whole = shapes[b][m] == _columns(self, limits)
        name = "source_cols" if whole else conditional_name("source_cols", b=b, m=m, **budget)
        n = trial.suggest_categorical(name, shapes[b][m])
        settings.update(prompt_length=b, source_rows=m, source_cols=n)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        common = gcd(limits.architecture.text.width, limits.architecture.image.width)
        for name in ("prompt_length", "source_rows", "source_cols"):
            listed = getattr(self, name)
            if listed is not None and (not listed or min(listed) < 1 or len(set(listed)) < len(listed)):
                raise SpaceError(
                    f"{list(listed)} is not a list of different positive numbers",
                    where=f"{where}.{name}",
                    fix="list each candidate once, 1 or more",
                )
        for b in self.prompt_length:
            if not _rows(self, b):
                raise SpaceError(
                    f"prompt_length {b} is divided by none of source_rows {list(self.source_rows or ())}",
                    where=f"{where}.source_rows",
                    fix=f"add one of {', '.join(map(str, divisors(b)))}, or leave source_rows out",
                )
        for m in self.source_rows or ():
            if all(b % m for b in self.prompt_length):
                raise SpaceError(
                    f"source_rows {m} divides none of prompt_length {list(self.prompt_length)}",
                    where=f"{where}.source_rows",
                    fix=f"remove {m}, or add a prompt_length that it divides",
                )
        for n in self.source_cols or ():
            if common % n:
                raise SpaceError(
                    f"source_cols {n} does not divide {common}, the common divisor of the text width "
                    f"{limits.architecture.text.width} and the image width {limits.architecture.image.width}",
                    where=f"{where}.source_cols",
                    fix="use divisors of it: " + ", ".join(map(str, divisors(common))),
                )
        modules = draft["settings"].get("modules", "both")
        if not _shapes(self, limits, modules):
            least, (b, m, n) = min(
                (_count(limits, modules, b, m, n), (b, m, n))
                for b in self.prompt_length
                for m in _rows(self, b)
                for n in _columns(self, limits)
            )
            raise SpaceError(
                f"max_params={limits.max_params} admits no prompt shape: the smallest, prompt_length={b}, "
                f"source_rows={m}, source_cols={n}, has {least} parameters with {limits.groups} "
                f"group{'s' * (limits.groups != 1)} of {limits.tasks} tasks",
                where="search.max_params",
                fix=f"allow {least} or more",
            )


@lru_cache(maxsize=32)
def _shapes(space: MmapShape, limits: Limits, modules: str) -> Shapes:
    shapes: Shapes = {}
    for b in space.prompt_length:
        rows = {m: _fitting(space, limits, modules, b, m) for m in _rows(space, b)}
        if kept := {m: columns for m, columns in rows.items() if columns}:
            shapes[b] = kept
    return shapes


def _fitting(space: MmapShape, limits: Limits, modules: str, b: int, m: int) -> tuple[int, ...]:
    columns = _columns(space, limits)
    if limits.max_params is None:
        return columns
    return tuple(n for n in columns if _count(limits, modules, b, m, n) <= limits.max_params)


def _count(limits: Limits, modules: str, b: int, m: int, n: int) -> int:
    settings = MmapSettings(prompt_length=b, source_rows=m, source_cols=n, modules=modules)  # type: ignore[arg-type]
    return get_method("mmap").count(settings, limits.architecture, tasks=limits.tasks, groups=limits.groups)


def _rows(space: MmapShape, b: int) -> list[int]:
    return [m for m in divisors(b) if space.source_rows is None or m in space.source_rows]


def _columns(space: MmapShape, limits: Limits) -> tuple[int, ...]:
    common = divisors(gcd(limits.architecture.text.width, limits.architecture.image.width))
    return tuple(n for n in common if space.source_cols is None or n in space.source_cols)
