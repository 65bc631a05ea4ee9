"""Starting Ray: a local one on this machine, or joining the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import subprocess
import time
import warnings
from collections.abc import Iterator
from typing import Any

from cluster.connect import require_cluster
from cluster.errors import ClusterError
from orchestrator.slots.environment import LONGEST_SOCKET, SOCKET, joins_cluster, too_long_for_sockets
from orchestrator.slots.patches import patched

TRIAL_CPUS = 0.1
"""What a thin trial takes: it waits for events and passes them on."""

ATTEMPTS = 3
"""Starts of a local Ray before its error is raised."""

SLOWER = 4
"""Times the 30 seconds that Ray gives its node to register."""

OBJECT_STORE = 256 * 2**20
"""Bytes of a local object store where nothing large passes through it."""

logger = logging.getLogger(__name__)


class RayNotUp(Exception):
    """A local Ray did not come up in the time that Ray gives it, several times in a row."""


def start_ray(
    *, slots: int, cpus: float, gpus: float, present: int | None = None, object_store: int = OBJECT_STORE
) -> bool:
    """Start or join a Ray, quietly.

    Args:
        slots, cpus, gpus: what has to fit on a local Ray: slots, and the cores and GPUs of each.
        present: GPUs of this machine; None: as Ray counts them.
        object_store: bytes of a local Ray's.

    Returns:
        True if this call started it, so that the caller shuts it down; False if Ray was up in this process.

    Raises:
        RayNotUp: a local Ray did not come up in ``ATTEMPTS`` attempts.
    """
    import ray

    if ray.is_initialized():
        return False
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    if joins_cluster():
        _join()
        return True
    folder = os.environ.get("RAY_TMPDIR", "")
    if too_long_for_sockets(folder):
        problem = f"{folder} is longer than Ray's sockets allow"
        fix = f"name a folder of at most {LONGEST_SOCKET - len(SOCKET)} bytes, or unset it"
        raise ClusterError(problem, where="RAY_TMPDIR", fix=fix)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _without_services(), _ending_together(), _given_time():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    # Logical cores: what the slots ask for, and their trials beside them.
                    num_cpus=math.ceil(slots * (cpus + TRIAL_CPUS)) + 1,
                    # Looking for GPUs takes time, and of a card in parts Ray would count one.
                    num_gpus=present if gpus else 0,
                    object_store_memory=object_store,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return True
        except Exception as error:
            # Ray gives its processes fixed seconds to come up, which a busy machine may not have.
            if "timed out during startup" not in str(error):
                raise
            if attempt == ATTEMPTS:
                raise RayNotUp(f"Ray did not come up in {ATTEMPTS} attempts: {error}") from error
            logger.warning("Ray did not come up in time, as on a busy machine; starting it again")
            ray.shutdown()
    raise AssertionError("the last attempt returns or raises")


def check_cluster() -> None:
    """Check that the cluster to be joined, if any, is there, and that Ray can work here. Does not import Ray.

    Raises:
        ClusterError: nobody answers at ``RAY_ADDRESS``, or the folder's name is not UTF-8.
    """
    folder = os.getcwd()  # noqa: PTH109
    if any("\ud800" <= character <= "\udfff" for character in folder):
        problem = f"the name of this folder is not UTF-8, and Ray works in no such folder: {folder}"
        raise ClusterError(problem, where="working directory", fix="rename it, or start in another folder")
    if joins_cluster():
        require_cluster(os.environ["RAY_ADDRESS"])


def _join() -> None:
    import ray

    address = os.environ["RAY_ADDRESS"]
    require_cluster(address)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"the cluster at {address} cannot be joined: {error}",
            where="RAY_ADDRESS",
            fix="start it with the same release of Ray, or unset RAY_ADDRESS for a Ray on this machine alone",
        ) from error


@contextlib.contextmanager
def _given_time() -> Iterator[None]:
    """Wait longer for Ray's node than its fixed 30 seconds: a busy machine is no error of anybody's."""
    from ray._private import node

    class Clock:
        """``time`` as Ray's node sees it while it starts: the seconds it counts are longer."""

        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

        def monotonic(self) -> float:
            return time.monotonic() / SLOWER

    with patched(node, "time", Clock()):
        yield


@contextlib.contextmanager
def _ending_together() -> Iterator[None]:
    """End the daemons that were started if one of them does not come up: Ray leaves them to themselves."""
    started: list[subprocess.Popen[bytes]] = []
    with _in_groups_of_their_own(started):
        try:
            yield
        except BaseException:
            for process in started:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            raise


@contextlib.contextmanager
def _in_groups_of_their_own(started: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Start Ray's daemons as leaders of process groups, so that a signal to the driver's group spares them.

    SIGTERM to a group (``timeout``, some service managers) would end them together with the driver, and a
    driver whose daemons are gone is ended by Ray within the next tenth of a second, before it could put
    things in order. They end with the driver in any case: the kernel sees to that.
    """
    from ray._private import services

    def start(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, process_group=0, **options)
        started.append(process)
        return process

    popen = services.ConsolePopen
    with patched(services, "ConsolePopen", start):
        yield


@contextlib.contextmanager
def _without_services() -> Iterator[None]:
    """Leave out what Ray starts beside a local head node although nobody here uses it.

    These are the server of the dashboard, for whose start ``ray.init`` waits even with
    ``include_dashboard=False``, the monitor of the autoscaler and that of logs: three processes that share
    the cores with the first worker's start. Ray offers no option for it; it is pinned to a minor version.
    """
    from ray._private import node, parameter

    leaner = functools.partial(parameter.RayParams, no_monitor=True, include_log_monitor=False)
    with (
        patched(parameter, "RayParams", leaner),
        patched(node.Node, "start_api_server", lambda self, **options: None),
    ):
        yield
