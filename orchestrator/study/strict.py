"""What every part of a study has in common: unknown keys, loose types and infinities are refused."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    added: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after the first records: absent from plain forms at their defaults, which keeps keys."""
