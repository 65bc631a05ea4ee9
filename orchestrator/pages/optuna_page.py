"""optuna-dashboard on the records of a study, in this process."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from mmap_model.errors import ConfigurationError
from orchestrator.ledger import TrialRecord
from orchestrator.pages.served import require_free
from orchestrator.statistics.objectives import Objective

LOOK_S = 2.0
"""Seconds between two readings of the records, at least."""

SHARE = 5.0
"""Times as long as a reading took until the next: of a large study the records are read less often."""

LoadTrials = Callable[[], list[TrialRecord]]


def require_dashboard() -> None:
    """Raise ConfigurationError, with the command that installs it, if optuna-dashboard is missing."""
    if find_spec("optuna_dashboard") is None:
        raise ConfigurationError(
            "--optuna needs optuna-dashboard, not installed here",
            where="orchestrator ui",
            fix="run uv sync --extra dashboard, or pip install optuna-dashboard",
        )


class OptunaPage:
    """optuna-dashboard on a study.

    Args:
        name: of the study.
        trials: reads its records.
        folder: for the study's file.
        objectives: of its search.
    """

    def __init__(self, name: str, trials: LoadTrials, folder: Path, objectives: Sequence[Objective]) -> None:
        from orchestrator.pages.optuna_study import OptunaStudy

        self.file = folder / "study.journal"
        self._trials = trials
        self._study = OptunaStudy(self.file, name, objectives)
        self.update()

    def update(self) -> int:
        """Show what the records say now; returns how many trials are new or have changed."""
        return self._study.update(self._trials())

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[str]:
        """Serve the page; gives its address. Port 0 is any free one.

        Raises:
            ConfigurationError: the address is taken.
        """
        from optuna_dashboard import wsgi

        require_free(host, port)
        server = make_server(host, port, wsgi(self._study.storage), _Server, _Quiet)
        thread = threading.Thread(target=server.serve_forever, name="dashboard", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}/dashboard/studies/{self._study.id}"
        finally:
            server.shutdown()
            server.server_close()

    def follow(self, ended: threading.Event, *, pause: float = LOOK_S) -> None:
        """Keep it current until ``ended``, with ``pause`` seconds between two readings, at least."""
        wait = pause
        while not ended.wait(wait):
            began = time.monotonic()
            self.update()
            wait = max(pause, SHARE * (time.monotonic() - began))


@contextmanager
def optuna_page(
    name: str, trials: LoadTrials, objectives: Sequence[Objective] = (Objective("accuracy", True),)
) -> Iterator[OptunaPage]:
    """optuna-dashboard on a study, with its file in a temporary folder.

    Raises:
        ConfigurationError: optuna-dashboard is not installed.
    """
    require_dashboard()
    with tempfile.TemporaryDirectory(prefix="optuna-") as folder:
        yield OptunaPage(name, trials, Path(folder), objectives)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are no news."""
