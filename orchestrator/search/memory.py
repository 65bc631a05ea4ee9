"""What samplers keep in system attributes of Optuna's trials and study, as a record holds it.

NSGA keeps generations and who their parents are, QMC how far its sequence is, CMA-ES its optimiser, TPE and
GP what they would have chosen for parameters that a running trial does not have. A search rebuilt from
records without it would go on differently.

CMA-ES keeps its optimiser as a pickle, and whoever may write to the storage may put another one there. So
only a pickle of what CMA-ES needs is given back to Optuna, which loads it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmap_model.errors import InputError

_GIVEN = "fixed_params"
_WHILE_RUNNING = ("tpe:relative_params", "gp:relative_params")
_OPTIMIZERS = ("cma:optimizer", "sepcma:optimizer", "cmawm:optimizer")
_CONSTRAINTS = "constraints"

_HARMLESS = frozenset(
    {
        ("cmaes._cma", "CMA"),
        ("cmaes._sepcma", "SepCMA"),
        ("cmaes._cmawm", "CMAwM"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pickle", "__bit_generator_ctor"),
        ("numpy.random._pickle", "__randomstate_ctor"),
    }
)
"""What an optimiser consists of. None of it does anything when it is made."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a proposal left in system attributes.

    Attributes:
        trial: of the trial itself.
        study: of the study, where the proposal changed them.
        dropped: attempts before it whose point another trial had.
    """

    trial: Mapping[str, Any] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    dropped: int = 0

    @classmethod
    def of(
        cls, attributes: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], dropped: int
    ) -> Memory:
        """What to keep of a proposal.

        Args:
            attributes: of the trial.
            before, after: of the study.
            dropped: attempts whose point another trial had.
        """
        return cls(
            trial={k: v for k, v in attributes.items() if k != _GIVEN and not k.startswith(_CONSTRAINTS)},
            study={name: value for name, value in after.items() if before.get(name) != value},
            dropped=dropped,
        )

    @property
    def while_running(self) -> Memory:
        """The part that counts only until the trial ends."""
        return Memory(trial={k: v for k, v in self.trial.items() if k.startswith(_WHILE_RUNNING)})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is empty is left out."""
        parts = {"trial": dict(self.trial), "study": dict(self.study), "dropped": self.dropped}
        return {name: part for name, part in parts.items() if part}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> Memory:
        """What ``to_dict`` gave.

        Raises:
            InputError: it is something else, or an optimiser that holds foreign objects; ``where`` names the
                record.
        """
        trial, study, dropped = data.get("trial", {}), data.get("study", {}), data.get("dropped", 0)
        if not (isinstance(trial, dict) and isinstance(study, dict) and isinstance(dropped, int)):
            raise _damaged("what its sampler kept cannot be read", where)
        for prefix in _OPTIMIZERS:
            parts = {int(k.rpartition(":")[2]): v for k, v in trial.items() if k.startswith(f"{prefix}:")}
            if parts:
                _require_harmless("".join(parts[i] for i in sorted(parts)), where)
        return cls(trial=trial, study=study, dropped=dropped)


def after_end(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a record still needs of `Memory.to_dict` once its trial has ended."""
    trial = {k: v for k, v in kept.get("trial", {}).items() if not k.startswith(_WHILE_RUNNING)}
    return {name: part for name, part in {**kept, "trial": trial}.items() if part}


class _Harmless(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _require_harmless(text: str, where: str) -> None:
    try:
        _Harmless(io.BytesIO(bytes.fromhex(text))).load()
    except Exception as error:  # whatever a forged pickle provokes
        raise _damaged(f"the optimiser that its sampler kept cannot be taken: {error}", where) from error


def _damaged(problem: str, where: str) -> InputError:
    return InputError(
        problem, where=where, fix="restore the record from a backup, or run the study under another name"
    )
