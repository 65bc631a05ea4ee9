"""The columns that ``--methods`` names: the paper's tables, newer methods, grouped ones, or single ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.methods import get_method, method_names
from mmap_model.methods.base import Method
from orchestrator.compare.columns import TABLE, ColumnSpec, ablation

NEWER, GROUPED = "2026", "grouped"
"""Sets of columns whose rates are searched around each method's own."""

SETS = ("table", "ablation", NEWER, GROUPED)

STRONGEST = ("full_ft_stl", "maple", "full_ft", "maple_mt")
"""Of the paper's columns those with the highest averages in its Tables 1 and 2: whole CLIPs, and of those
that train few numbers the best in each regime."""

_SUFFIX = {"single": "_stl", "grouped": "_grouped"}

_IN_ONE = {
    "clip_adapter": ColumnSpec(
        name="clip_adapter_shared",
        label="CLIP-Adapter, one for all",
        method="clip_adapter",
        settings={"shared": True},
    )
}
"""What all tasks train, of methods whose column in the paper's tables has a copy for each task."""


def choose_columns(names: Iterable[str], tasks: Sequence[str]) -> tuple[ColumnSpec, ...]:
    """The columns that ``--methods`` names, in the order of the tables.

    Args:
        names: of columns; ``table`` for all of Tables 1 and 2, ``ablation`` for all of Table 3 with the
            framework itself, ``2026`` for `newer`, ``grouped`` for `in_groups`, or a method
            (``my_file.py:MyMethod`` or registered) in all its regimes; ``clip_lora_multi`` for one of them.
        tasks: names of the dataset's tasks.

    Raises:
        ConfigurationError: an unknown name, with the nearest known one.
    """
    rows = ablation(tasks)
    sets = {"table": TABLE, NEWER: tuple(newer()), GROUPED: tuple(in_groups(tasks))}
    sets["ablation"] = (*rows, *(column for column in TABLE if column.name == "mmap"))
    every = [*TABLE, *sets[NEWER], *sets[GROUPED], *rows]
    known = {column.name: column for column in reversed(every)}
    known |= {
        f"{c.method}_multi": c
        for c in sets[NEWER]
        if c.name == c.method and (c.regime == "multi" or f"{c.name}{_SUFFIX['single']}" in known)
    }
    fixed = {column.name for column in (*TABLE, *rows)}
    chosen: dict[str, ColumnSpec] = {}
    for name in names:
        if name in sets:
            chosen |= {column.name: column for column in sets[name]}
        elif name in known and (name in fixed or name not in method_names()):
            chosen[known[name].name] = known[name]
        else:
            chosen |= {own.name: own for own in _named(name, known)}
    order = dict.fromkeys([*(column.name for column in every), *chosen])
    return tuple(chosen[name] for name in order if name in chosen)


def newer() -> Iterator[ColumnSpec]:
    """MmAP and the paper's strongest, and each registered method that the paper lacks, single and multi."""
    named = ("zero_shot", *STRONGEST, "mmap")
    yield from (column for column in TABLE if column.name in named)
    old = {column.method for column in (*TABLE, *ablation(()))}
    for method in method_names():
        if method not in old:
            yield from (c for c in columns_of(get_method(method), method) if c.regime != "grouped")


def in_groups(tasks: Sequence[str]) -> Iterator[ColumnSpec]:
    """Every registered method that has groups, beside one model for all tasks, and beside one group of all.

    The last tells what the groups give from what a part for each task gives.
    """
    yield from (column for column in TABLE if column.name in ("zero_shot", "mmap"))
    yield from (column for column in ablation(tasks) if column.name == "one_group")
    for name in method_names():
        columns = columns_of(get_method(name), name)
        grouped = next((column for column in columns if column.regime == "grouped"), None)
        if grouped is None:
            continue
        in_one = [_IN_ONE[name]] if name in _IN_ONE else [c for c in (*TABLE, *columns) if _is_multi(c, name)]
        yield from in_one[:1]
        yield grouped
        if len(tasks) > 1:
            yield ColumnSpec(
                name=f"{name}_one_group",
                label=f"{grouped.label}, one group",
                method=name,
                settings=grouped.settings,
                preferred=grouped.preferred,
                regime="grouped",
                grouping="single",
            )


def _is_multi(column: ColumnSpec, method: str) -> bool:
    return (column.method, column.regime) == (method, "multi")


def columns_of(method: Method, name: str) -> list[ColumnSpec]:
    """A column for every regime of a method; ``name`` is what it was called by, a file's path maybe."""
    label = method.label or name.rpartition(":")[2]
    untold = not method.trains and len(method.budgets) > 1
    return [
        ColumnSpec(
            name=method.name + _SUFFIX.get(budget.regime or "", ""),
            label=f"{label} ({budget.regime}-task)" if untold else label,
            method=name,
            settings=budget.settings,
            preferred=budget.preferred,
            regime=budget.regime if method.trains else None,
            printed=budget.printed,
        )
        for budget in method.budgets
    ]


def _named(name: str, known: Iterable[str]) -> list[ColumnSpec]:
    """A column for every regime of a method that is no column itself."""
    try:
        method = get_method(name, where="--methods")
    except ConfigurationError as error:
        if ":" in name:
            raise
        fix = f"{nearest(name, [*known, *SETS])}; or my_file.py:MyMethod"
        raise ConfigurationError(f"unknown method {name!r}", where="--methods", fix=fix) from error
    return columns_of(method, name)
