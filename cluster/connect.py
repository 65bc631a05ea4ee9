"""Reaching the job server of a cluster: authenticated, checked, and without Ray's own silent detours."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import MutableMapping
from urllib.parse import urlparse

from cluster import authentication
from cluster.errors import ClusterError
from cluster.jobs import Jobs, refused, unreachable

DEFAULT = "http://127.0.0.1:8265"
"""Where the dashboard of a head node on this machine, or a tunnel to one, answers."""

PATIENCE_S = 10.0
"""Seconds for a head node to accept a connection."""

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Where an address is taken from if none is given, in this order."""

CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray's client that tell of every step; they set their own level on import."""


def connect(address: str | None = None, environment: MutableMapping[str, str] = os.environ) -> Jobs:
    """The jobs of the cluster at ``address``.

    Args:
        address: of its dashboard; None: the environment's, else the one on this machine.
        environment: of this process; authentication is switched on in it.

    Raises:
        ClusterError: nothing answers, the token is missing or refused, or the cluster's Ray does not fit.
    """
    environment.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    authentication.use_token(environment)
    server, ray_address = (environment.pop(name, None) for name in VARIABLES)  # Ray would prefer them
    if ray_address == "local":  # to a driver a Ray of its own; jobs have none
        ray_address = None
    found = address or server or ray_address or DEFAULT
    if "://" not in found and found != ray_address:  # Ray finds the dashboard of what it calls an address
        found = f"http://{found}"
    _check_answers(found)
    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        client = JobSubmissionClient(found)
    except AuthenticationError as error:
        raise refused(found) from error
    except OSError as error:
        raise unreachable(found) from error
    except (RuntimeError, ValueError) as error:
        raise ClusterError(str(error), where=found, fix="give the address of a Ray dashboard") from error
    _check_version(found, client._server_ray_version, ray.__version__)
    return Jobs(client, found)


def require_cluster(address: str) -> None:
    """Check that a cluster that a driver is to join is there: Ray itself tries for minutes.

    Args:
        address: ``HOST:PORT`` or ``ray://HOST:PORT``; ``auto`` is for Ray to find.

    Raises:
        ClusterError: it is the address of something else, or nothing answers.
    """
    fix = "start the cluster, correct RAY_ADDRESS, or unset it for a Ray on this machine alone"
    if address == "auto":
        return
    parts = urlparse(address if "://" in address else f"ray://{address}")
    if parts.scheme in ("http", "https"):
        raise ClusterError(
            f"{address} is the dashboard of a cluster, and a driver joins by HOST:PORT",
            where="RAY_ADDRESS",
            fix="submit the study there: orchestrator submit STUDY, or give the address of the head node",
        )
    try:
        if parts.scheme != "ray" or not parts.hostname or not parts.port:
            raise ValueError("it is not HOST:PORT")
        with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S):
            return
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no cluster answers at {address}: {error}", where="RAY_ADDRESS", fix=fix
        ) from error


def travels_in_the_open(address: str) -> bool:
    """Whether a token sent to this address can be read on the way."""
    parts = urlparse(address)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    with contextlib.suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return True


def _check_answers(address: str) -> None:
    """Ray's client waits for minutes where nobody answers."""
    parts = urlparse(address)
    if parts.scheme not in ("http", "https"):
        return
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        with socket.create_connection((parts.hostname or "", port), timeout=5.0):
            return
    except (OSError, ValueError) as error:
        raise unreachable(address) from error


def _check_version(address: str, theirs: str, ours: str) -> None:
    if theirs.split(".")[:2] != ours.split(".")[:2]:
        raise ClusterError(
            f"the cluster runs Ray {theirs}, this software needs Ray {'.'.join(ours.split('.')[:2])}",
            where=address,
            fix="use the container image of cluster/, or install the same release on all nodes",
        )
