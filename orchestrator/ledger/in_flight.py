"""How far batches of cells are trained: of each the states after its last odd and its last even epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmap_model.plain import content_key
from orchestrator.ledger.damage import Damage
from orchestrator.ledger.documents import CorruptError, NewerFormatError, decode_state, encode_state, now
from orchestrator.ledger.storage import Storage

EVEN = ".even"


@dataclass(frozen=True)
class InFlight:
    """How far a batch is trained.

    Attributes:
        cells: the cells the batch was built of, as dictionaries, in order.
        built: their keys, by which the state is found; empty in states of earlier versions, which are found
            by ``active``.
        active: keys of those neither failed nor cancelled.
        epoch: epochs completed.
        history: per key the reports of epochs 1 to ``epoch``.
        state: what ``FusedRun.restore`` takes.
        about: who wrote it: study, trial, invocation, time.
    """

    cells: tuple[dict[str, Any], ...]
    active: tuple[str, ...]
    epoch: int
    history: dict[str, list[dict[str, Any]]]
    state: bytes
    about: dict[str, Any]
    built: tuple[str, ...] = ()

    @property
    def batch(self) -> str:
        """The batch key under which it is kept."""
        return batch_key(self.built or self.active)


class InFlightStates:
    """The states below ``inflight/``. If one of a batch is damaged the other is left.

    Args:
        storage: holds them.
        damage: told of damaged ones.
    """

    def __init__(self, storage: Storage, damage: Damage) -> None:
        self._storage, self._damage = storage, damage

    def save(self, state: InFlight) -> str:
        """Replace the last but one state of a batch; returns its batch key."""
        key = state.batch
        header = {name: value for name, value in vars(state).items() if name != "state"}
        path = f"inflight/{key}{'' if state.epoch % 2 else EVEN}"
        self._storage.write(path, encode_state({**header, "saved_at": now()}, state.state))
        return key

    def latest(self, keys: Sequence[str]) -> InFlight | None:
        """The latest whole state of the batch that was built of the cells ``keys`` in this order, or None."""
        batch = batch_key(keys)
        found = (self._read_state(f"inflight/{name}", batch) for name in (batch, f"{batch}{EVEN}"))
        return max((state for state in found if state is not None), key=lambda s: s.epoch, default=None)

    def drop(self, keys: Sequence[str]) -> None:
        """Forget the states of a batch."""
        batch = batch_key(keys)
        self._storage.delete(f"inflight/{batch}")
        self._storage.delete(f"inflight/{batch}{EVEN}")

    def batches(self) -> list[str]:
        """Batch keys that have a state, by one listing."""
        return sorted({name.removesuffix(EVEN) for name in self._storage.names("inflight")})

    def _read_state(self, path: str, batch: str) -> InFlight | None:
        data = self._storage.read(path)
        if data is None:
            return None
        try:
            header, state = decode_state(data)
            if batch_key(header.get("built") or header["active"]) != batch:
                raise CorruptError("it is of another batch")
        except NewerFormatError as error:
            self._damage.note(f"{path}: {error}")
            return None
        except CorruptError as error:
            self._damage.move_aside(path, f"{path}: {error}")
            return None
        return InFlight(
            cells=tuple(header["cells"]),
            active=tuple(header["active"]),
            epoch=header["epoch"],
            history=header["history"],
            state=state,
            about=header["about"],
            built=tuple(header.get("built", ())),
        )


def batch_key(keys: Sequence[str]) -> str:
    """Name of a batch: hash of its cell keys in order."""
    return content_key(list(keys))
