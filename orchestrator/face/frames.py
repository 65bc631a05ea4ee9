"""Rows of plain values as a table of Arrow or pandas, complete: every row, every column, nothing rounded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Form = Literal["pandas", "arrow"]


@overload
def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Literal["arrow"]) -> pa.Table: ...
@overload
def frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Literal["pandas"]
) -> pd.DataFrame: ...
@overload
def frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Form
) -> pd.DataFrame | pa.Table: ...
def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Form) -> pd.DataFrame | pa.Table:
    """The rows as a table.

    Args:
        rows: values by column; what a row does not name is null.
        columns: that are there even without rows, in this order; further ones of the rows come after them.
        form: ``pandas`` or ``arrow``.
    """
    import pyarrow as pa

    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    return as_form(table, form)


def as_form(table: pa.Table, form: Form) -> pd.DataFrame | pa.Table:
    """An Arrow table as it is, or as pandas with nulls in whole numbers and booleans kept as they are.

    Raises:
        ValueError: a form that is none of the two.
    """
    if form == "arrow":
        return table
    if form != "pandas":
        raise ValueError(f"form={form!r} is not allowed: use 'pandas' or 'arrow'")
    import pandas as pd
    import pyarrow as pa

    nullable = {
        pa.int64(): pd.Int64Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    return table.to_pandas(types_mapper=nullable.get)


def _column(values: Sequence[Any]) -> pa.Array:
    """As Arrow sees them; lists, mappings and columns of mixed kinds as JSON text."""
    import pyarrow as pa

    if not any(isinstance(value, list | tuple | dict) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # such as a number in one trial and a word in another
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])
