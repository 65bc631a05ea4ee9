"""Notices on disk until they are delivered.

    <folder>/waiting/<time>-<id>.json   a notice and the variables whose addresses it has still to reach
    <folder>/delivered/<id>             which of them it has reached, one a line
    <folder>/lock                       held by the process that delivers

A killed process loses no notice that ``put`` returned from. The file of a notice counts the attempts of which
nobody knows how they ended, because the process was killed meanwhile: after two the notice is not sent again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.notices.notice import Notice

UNSURE = 2
"""Attempts with an unknown end after which a notice is given up for an address."""

logger = logging.getLogger(__name__)


@dataclass
class WaitingNotice:
    """A notice on its way.

    Attributes:
        path: its file.
        left: variables whose addresses it has not reached.
        unsure: by variable, attempts of which nobody knows the end.
    """

    path: Path
    notice: Notice
    left: list[str]
    unsure: dict[str, int] = field(default_factory=dict)


class NoticeBox:
    """One folder; written by a driver, emptied by it or by whoever looks after it.

    Args:
        folder: local, of one study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, notice: Notice, variables: Iterable[str]) -> bool:
        """Keep a notice for the addresses in some variables; False if the event is known already."""
        self._make("waiting")
        if self._is_known(notice.id):
            return False
        stamp = re.sub(r"[^0-9]", "", notice.at)[:20]
        path = self.folder / "waiting" / f"{stamp}-{notice.id}.json"
        self._write(WaitingNotice(path, notice, list(variables)))
        return True

    def waiting(self) -> list[WaitingNotice]:
        """What has not reached every address, oldest first. A file that cannot be read is moved aside."""
        found = []
        with contextlib.suppress(OSError):
            for path in sorted((self.folder / "waiting").glob("*.json")):
                with contextlib.suppress(FileNotFoundError):
                    if (one := self._read(path)) is not None:
                        found.append(one)
        return found

    def begin(self, one: WaitingNotice, variable: str) -> bool:
        """An attempt begins; False if two ended nobody knows how, and a third might be one too many."""
        if one.unsure.get(variable, 0) >= UNSURE:
            self._over(one, variable)
            return False
        one.unsure[variable] = one.unsure.get(variable, 0) + 1
        self._write(one)
        return True

    def failed(self, one: WaitingNotice, variable: str) -> None:
        """The attempt that has begun did not deliver it."""
        one.unsure[variable] -= 1
        self._write(one)

    def delivered(self, one: WaitingNotice, variable: str) -> None:
        """The attempt that has begun delivered it."""
        self._make("delivered")
        with (self.folder / "delivered" / one.notice.id).open("a") as stream:
            stream.write(f"{variable}\n")
        self._over(one, variable)

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Be the one that delivers; False if another process is. A process that dies lets go by that."""
        self._make("")
        descriptor = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = True
            except BlockingIOError:
                mine = False
            except OSError as error:  # a file system without locks
                logger.warning("%s cannot be locked: %s", self.folder, error)
                mine = True
            yield mine
        finally:
            os.close(descriptor)

    def _over(self, one: WaitingNotice, variable: str) -> None:
        one.left.remove(variable)
        if one.left:
            self._write(one)
        else:
            one.path.unlink(missing_ok=True)

    def _is_known(self, notice: str) -> bool:
        if (self.folder / "delivered" / notice).exists():
            return True
        return any((self.folder / "waiting").glob(f"*-{notice}.json"))

    def _make(self, below: str) -> None:
        """For this user alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / below).mkdir(mode=0o700, exist_ok=True)

    def _write(self, one: WaitingNotice) -> None:
        document = {"notice": one.notice.to_dict(), "left": one.left, "unsure": one.unsure}
        temporary = one.path.with_suffix(f".{os.getpid()}")
        with temporary.open("w") as stream:
            json.dump(document, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(one.path)

    def _read(self, path: Path) -> WaitingNotice | None:
        try:
            document: dict[str, Any] = json.loads(path.read_bytes())
            left, unsure = [str(name) for name in document["left"]], dict(document["unsure"])
            return WaitingNotice(path, Notice.from_dict(document["notice"]), left, unsure)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("A notice cannot be read and is not sent: %s: %s", path, error)
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
            return None
