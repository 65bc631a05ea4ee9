"""Starting Ray: a local one on this machine, or joining the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import warnings
from collections.abc import Iterator

from orchestrator.slots.environment import joins_cluster
from orchestrator.slots.replaced import replaced

TRIAL_CPUS = 0.1
"""What a thin trial takes: it waits for events and passes them on."""

ATTEMPTS = 3
"""Starts of a local Ray before its error is raised."""

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
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        return True
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _without_services(), _in_groups_of_their_own():
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
            logger.warning("Ray did not come up in time, starting it again")
            ray.shutdown()
    raise AssertionError("the last attempt returns or raises")


@contextlib.contextmanager
def _in_groups_of_their_own() -> Iterator[None]:
    """Start Ray's daemons as leaders of process groups, so that a signal to the driver's group spares them.

    SIGTERM to a group (``timeout``, some service managers) would end them together with the driver, and a
    driver whose daemons are gone is ended by Ray within the next tenth of a second, before it could put
    things in order. They end with the driver in any case: the kernel sees to that.
    """
    from ray._private import services

    with replaced(services, "ConsolePopen", functools.partial(services.ConsolePopen, process_group=0)):
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
        replaced(parameter, "RayParams", leaner),
        replaced(node.Node, "start_api_server", lambda self, **options: None),
    ):
        yield
