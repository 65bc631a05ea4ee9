"""Where a page lies: a file of this machine, or an object of a store."""

from __future__ import annotations

from mmap_model.errors import InputError
from mmap_model.paths import expanded
from orchestrator.ledger.storage import Storage, open_storage
from orchestrator.redaction import redact, shown_uri
from orchestrator.reports.page.make import is_page


class PageFile:
    """A file by its path or URI.

    Args:
        name: path, or URI whose options stay at its end.
    """

    def __init__(self, name: str) -> None:
        self._name = name.removeprefix("file://")
        self._is_uri = "://" in self._name

    @property
    def shown(self) -> str:
        """For people."""
        return shown_uri(self._name) if self._is_uri else self._name

    def beside(self, suffix: str) -> PageFile:
        """The file of the same name with another suffix."""
        place, mark, options = self._split()
        folder, slash, file = place.rpartition("/")
        stem = file.rpartition(".")[0] or file
        return PageFile(f"{folder}{slash}{stem}{suffix}{mark}{options}")

    def read(self) -> str:
        """Its text.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        data = self._read()
        if data is None:
            raise InputError("there is no such file", where=self.shown, fix="check its name")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self._refused("read", error) from error

    def check_free(self) -> None:
        """Make sure that nothing but an earlier page is replaced.

        Raises:
            InputError: another file lies there, or it cannot be looked at.
        """
        data = self._read()
        if data is not None and not is_page(data.decode(errors="replace")):
            raise InputError(
                "a file is there that orchestrator report did not write",
                where=self.shown,
                fix="give another place with --out, or remove it",
            )

    def write(self, text: str) -> tuple[str, int]:
        """Write it in one step, in place of what is there; its name for people and its bytes.

        Raises:
            InputError: it cannot be written.
        """
        data = text.encode("utf-8", "backslashreplace")
        try:
            storage, name = self._storage()
            storage.write(name, data)
        except OSError as error:
            raise self._refused("written", error) from error
        return self.shown, len(data)

    def _read(self) -> bytes | None:
        try:
            storage, name = self._storage()
            return storage.read(name)
        except OSError as error:
            raise self._refused("read", error) from error

    def _storage(self) -> tuple[Storage, str]:
        """The folder it lies in as a storage, and its name there."""
        if not self._is_uri:
            path = expanded(self._name).absolute()
            return open_storage(str(path.parent)), path.name
        place, mark, options = self._split()
        folder, _, name = place.rpartition("/")
        return open_storage(f"{folder}{mark}{options}"), name

    def _split(self) -> tuple[str, str, str]:
        return self._name.partition("?") if self._is_uri else (self._name, "", "")

    def _refused(self, verb: str, error: Exception) -> InputError:
        reason = redact(str(error)).splitlines()[0] if str(error) else type(error).__name__
        return InputError(f"it cannot be {verb}: {reason}", where=self.shown, fix="give another path")
