"""A storage that a driver writes to only as long as it holds its study."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.ledger.storage import Storage, StorageEntry


class GuardedStorage(Storage):
    """Writes nothing any more once another driver took over; reads go on.

    What is to be written then is dropped without a word: the driver ends, and says why once. The study is the
    other's, which has decided already what counts (see ``orchestrator.ledger.fences``).

    Args:
        behind: the storage.
        holds: whether the driver still holds the study.
    """

    def __init__(self, behind: Storage, holds: Callable[[], bool]) -> None:
        self._behind, self._holds = behind, holds
        self.root, self.exclusive = behind.root, behind.exclusive

    def read(self, path: str) -> bytes | None:
        return self._behind.read(path)

    def write(self, path: str, data: bytes) -> None:
        if self._holds():
            self._behind.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        return self._holds() and self._behind.create(path, data)

    def delete(self, path: str) -> None:
        if self._holds():
            self._behind.delete(path)

    def move(self, path: str, target: str) -> None:
        if self._holds():
            self._behind.move(path, target)

    def names(self, folder: str) -> list[str]:
        return self._behind.names(folder)

    def files(self, folder: str) -> Iterator[str]:
        return self._behind.files(folder)

    def everything(self) -> Iterator[StorageEntry]:
        return self._behind.everything()
