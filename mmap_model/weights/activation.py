"""QuickGELU or GELU: weights of one load cleanly into a model of the other, and every feature is wrong.

A file seldom says which one it was trained with. Whatever does say it is heeded, and all of it must agree
with the model. Where nothing does, a model whose name ends in ``-quickgelu`` is taken at its word, with a
warning; a plain name leaves it open (OpenAI's weights go by it too), so the study has to state it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmap_model.errors import BackboneError

SUFFIX = "-quickgelu"


@dataclass(frozen=True)
class ActivationClaim:
    """One source that says what weights were trained with."""

    quick_gelu: bool
    by: str


def told_by_code(code: str) -> bool | None:
    """Whether a TorchScript archive's source computes QuickGELU; None where it shows no activation."""
    if "QuickGELU" in code or "1.702" in code:
        return True
    return False if "torch.gelu(" in code else None


def check_activation(
    told: Sequence[ActivationClaim], *, model: str, quick_gelu: bool, source: str, named: bool, where: str
) -> str | None:
    """Refuse weights whose activation is not the model's, or cannot be told.

    Args:
        told: everything that says which activation the weights were trained with.
        model: name of the model.
        quick_gelu: whether it computes QuickGELU.
        source: of the weights, for messages.
        named: the model is one of open_clip's by name, so another name may fit.
        where: key of the study that names the weights.

    Returns:
        A warning where only the model's name tells; else None.

    Raises:
        BackboneError: with what says so, and what to change.
    """
    for one in told:
        if one.quick_gelu != quick_gelu:
            stem = model.removesuffix(SUFFIX)
            other = f"{stem}{SUFFIX}" if one.quick_gelu else stem
            stated = one.by == STATED
            raise BackboneError(
                f"{source!r} was trained with {_name(one.quick_gelu)} ({one.by}), "
                f"but {model!r} computes {_name(quick_gelu)}",
                where="backbone.activation" if stated else "backbone.model",
                fix=f"use {other}"
                if named
                else f"set quick_gelu: {str(one.quick_gelu).lower()} in the "
                "model's configuration, or give the weights that it was written for",
            )
    if told:
        return None
    value = "quickgelu" if quick_gelu else "gelu"
    if quick_gelu:
        return (
            f"nothing in or beside {source} says which activation it was trained with; "
            f"{_name(quick_gelu)} is taken from the name {model}. "
            f"State it to be sure: backbone.activation: {value}"
        )
    stem = model.removesuffix(SUFFIX)
    raise BackboneError(
        f"nothing in or beside {source} says whether it was trained with GELU or QuickGELU, "
        f"and {model!r} computes GELU: with the other one every feature would be wrong",
        where=where,
        fix=f"for weights trained with GELU (most of open_clip's) add backbone.activation: gelu; "
        f"for OpenAI's and others trained with QuickGELU use the model {stem}{SUFFIX}",
    )


STATED = "the study says so"


def _name(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"
