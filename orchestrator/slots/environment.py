"""Environment variables that Ray reads, set in one place before ``ray`` is imported anywhere.

Ray reads most of them once, at import or when a process starts, so a late assignment is silently ignored.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, MutableMapping

DRIVER: Mapping[str, str] = {
    # Without this every Ray worker of a driver started by `uv run` is started through `uv run` too.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Seconds between a Train controller's looks at its worker: bounds how fast a death or an end is noticed.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    # One worker per run, restarted when it dies: nobody has to be warned of a preemption.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    # Workers and trials stay where they were started: relative paths of a study mean the same everywhere.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Signals are ours; state is in the study's records, Tune's own is never read again.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
    # Trials that may start or change over at the same time. With Tune's own limit of one for searchers like
    # ours, hundreds of trial actors would come up one after the other, and actors that end at the same moment
    # would be thrown away instead of reused.
    "TUNE_MAX_PENDING_TRIALS_PG": "32",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # The end of a failed or cancelled trial is reported without a metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "GRPC_VERBOSITY": "ERROR",
}


LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket on Linux."""

SOCKET = "/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store"
"""The longest path that Ray makes a socket at, below its temporary folder."""


def joins_cluster(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether ``RAY_ADDRESS`` names a cluster to join; empty or ``local`` means a new local Ray."""
    return environment.get("RAY_ADDRESS", "") not in ("", "local")


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what is not set yet. Call before the first ``import ray``; harmless when called again.

    A local Ray listens on loopback only and gets token authentication with a token of its own, handed down to
    its processes through the environment. Of a cluster that is joined mode and token are used as the
    environment has them.
    """
    for name, value in DRIVER.items():
        environment.setdefault(name, value)
    if not joins_cluster(environment):
        # Ray runs its workers at nice 15: beside any other program they would get next to nothing.
        environment.setdefault("RAY_worker_niceness", "0")
        # A Ray of one machine listens on loopback alone; that is how Ray itself goes about it on macOS.
        environment.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if "RAY_TMPDIR" not in environment and too_long_for_sockets(environment.get("TMPDIR", "")):
            environment["RAY_TMPDIR"] = "/tmp"
        environment.setdefault("RAY_AUTH_MODE", "token")
        if environment["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in environment:
            environment.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def too_long_for_sockets(folder: str) -> bool:
    """Whether the sockets that Ray makes below a temporary folder have longer paths than systems take."""
    return len(os.fsencode(folder.rstrip("/"))) + len(SOCKET) > LONGEST_SOCKET


def worker_variables(threads: int) -> dict[str, str]:
    """Environment of a slot's worker: its threads, counted by us and not left to each library.

    All threads share one arena of glibc's allocator. Train calls the training function in a thread, and an
    arena of a thread's own gives whole heaps of 64 MB back to the system, whatever `keep_freed_memory` says:
    every step would have its pages cleared anew.
    """
    count = str(threads)
    return {
        "MALLOC_ARENA_MAX": "1",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
