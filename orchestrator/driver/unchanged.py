"""Whether a study may go on: with the data, the weights and the rules that its results were made with.

What is compared is content, not paths: a study continues after a move of its data, and other images under
the same names are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mmap_model.cells import Cell
from mmap_model.revisions import reasons_between, revisions_of
from orchestrator.commands import command
from orchestrator.execution.company import outpaced
from orchestrator.ledger import StudyStore
from orchestrator.statistics.mixed import rows_by_inputs
from orchestrator.study import COMPARISON, StudyPlan
from orchestrator.study.errors import StudyError
from orchestrator.work.inputs import Inputs, require_same

NAMED = 3
"""Rows that are named where more differ."""


READ_OTHERWISE = (
    ". They were replaced, or an earlier version of this software did not heed what is published with them "
    "(activation, preprocessing)"
)


def require_same_inputs(plan: StudyPlan, store: StudyStore) -> None:
    """Compare the plan with the data and weights that the study in ``store`` was begun with, where known.

    Raises:
        OtherInputs: they are others; says what differs.
    """
    known = store.load_inputs()
    if known is not None:
        require_same(
            Inputs.from_dict(known),
            plan.inputs,
            opening=f"study {store.name!r} was begun with other {{what}}",
            fix=f"put those {{what}} back, or run it with these as another study: {_renamed(store.name)}",
        )


def require_same_cells(
    plan: StudyPlan,
    name: str,
    rows: Iterable[tuple[str, Iterable[str]]],
    records: Mapping[str, dict[str, Any]],
) -> None:
    """Compare the plan with what the finished cells of a study were trained on.

    Args:
        plan: what would be trained next.
        name: of the study.
        rows: with their cells' keys; as they are called, such as ``trial 3``.
        records: of finished cells by key.

    Raises:
        StudyError: cells were trained on other data or weights; says which rows, and if the study is mixed
            already.
    """
    found = rows_by_inputs(rows, records)
    now = (plan.data.manifest, plan.fingerprint)
    others = {inputs: named for inputs, named in found.items() if inputs != now}
    if not others:
        return
    images = any(manifest != now[0] for manifest, _ in others)
    what = "images" if images else "weights"
    said = "; ".join(
        f"{_listed([*named])}: {_hashes(inputs, now, images)}"
        for inputs, named in {**others, **found}.items()
    )
    mixed = " already, and not all on the same" if len(found) > 1 else ""
    raise StudyError(
        f"results of study {name!r} come from other {what} than there are now{mixed}: {said}; "
        f"now {now[0] if images else now[1]}{'' if images else READ_OTHERWISE}",
        where="dataset" if images else "backbone",
        fix=f"run it with these {what} as another study: {_renamed(name)}"
        + ("" if len(found) > 1 else f"; or put the other {what} back"),
    )


def require_same_rules(
    plan: StudyPlan,
    name: str,
    rows: Iterable[tuple[str, Iterable[str]]],
    records: Mapping[str, dict[str, Any]],
) -> None:
    """Check that cells which are finished would come out the same if this version trained them.

    Args:
        plan, name, rows, records: as of `require_same_cells`.

    Raises:
        StudyError: an earlier or later version computes other numbers; says why.
    """
    rules = _Rules(plan)
    for row, keys in rows:
        for key in keys:
            record = records.get(key, {})
            if "cell" not in record:
                continue
            reasons = reasons_between(record.get("revisions", {}), rules.of(record["cell"]))
            reasons += filter(None, [outpaced(record, records)])
            if reasons:
                readable = command("results", name, storage=plan.study.storage)
                raise StudyError(
                    f"{row} of study {name!r} has numbers that this version of the software would not give, "
                    f"so they do not compare with new ones: {'; '.join(reasons)}",
                    where="name",
                    fix=f"run it as another study: {_renamed(name)}; or continue it with the version that "
                    f"began it. Its results stay readable: {readable}",
                )


class _Rules:
    """What this version would train cells by. Reading a cell takes a while: all seeds share what it gave."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._known: dict[str, dict[str, int]] = {}

    def of(self, cell: dict[str, Any]) -> dict[str, int]:
        """The revisions of a cell as its record has it."""
        alike = json.dumps({name: value for name, value in cell.items() if name != "seeds"})
        if alike not in self._known:
            read = replace(Cell.from_dict(cell), **self._plan.known_from_dataset)
            self._known[alike] = revisions_of(read)
        return self._known[alike]


def _renamed(name: str) -> str:
    """The override that gives another name; ``compare`` puts its word in front by itself."""
    return f"name={name.removeprefix(COMPARISON)}-2"


def _hashes(inputs: tuple[str, str], now: tuple[str, str], images: bool) -> str:
    kind = "manifest" if images else "fingerprint"
    return f"{kind} {inputs[0] if images else inputs[1]}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
