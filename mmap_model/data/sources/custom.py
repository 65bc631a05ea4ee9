"""Layouts that are not registered but named as ``file.py:MyLayout`` or ``my_module:MyLayout``."""

from __future__ import annotations

import inspect
import re

from mmap_model import references
from mmap_model.data.sources.base import Source
from mmap_model.errors import DatasetError

_EXAMPLE = "file.py:MyLayout"


def custom_layout(name: str, reference: references.Reference, where: str) -> type[Source]:
    """The class of sources that ``reference``, written ``name``, stands for.

    Raises:
        DatasetError: it cannot be found, or is not a layout.
    """
    kind = references.resolve(reference, where=where, example=_EXAMPLE, error=DatasetError)

    def refuse(problem: str, fix: str) -> DatasetError:
        return DatasetError(f"{name}: {problem}", where=where, fix=fix)

    if not (isinstance(kind, type) and issubclass(kind, Source)):
        raise refuse(
            "there is no layout of that name", "make it a class that derives from Source or FileSource"
        )
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise refuse(f"{missing} not written", "write them, or derive from FileSource, which has them")
    label = getattr(kind, "name", None)
    if not isinstance(label, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", label):
        raise refuse(f"name is {label!r}", 'give the class a name = "…" of lower-case letters, digits and _')
    try:
        inspect.signature(kind).bind(None)
    except TypeError:
        raise refuse(
            "it is not made from a DatasetSpec alone", "write def __init__(self, spec: DatasetSpec)"
        ) from None
    return kind
