"""A Ray Train run of one worker that stays up and serves the pool: one slot.

Train is made for one training job per run. Three of its services have nothing to do for a resident run of one
worker, and each starts a process that imports all of Ray Data: the shards of datasets, the requests to an
autoscaler for elastic runs, and the detached cleaner of placement groups (the driver does that here, see
``orchestrator.slots.slots``). ``ResidentTrainer`` leaves them out. It derives from Train's data-parallel
trainer rather than from ``TorchTrainer``, which adds a process group between several workers and the import
of torch in driver and controller. Together this brings the first worker up in about half the time, and each
slot takes about a gigabyte less memory. Ray is pinned to a minor version; a test checks that what is
overridden exists.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup, WorkerGroupPollStatus
from ray.train.v2.api.config import LoggingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.sealing import open_sealed
from orchestrator.redaction import redact_logging
from orchestrator.slots.environment import worker_variables
from orchestrator.slots.worker import SlotSettings, serve

LEFT_OUT = (DatasetsCallback, PlacementGroupCleanerCallback)


class SlotStopped(Exception):
    """The workers of a slot died too often without finishing anything."""


class ResidentTrainer(DataParallelTrainer):  # type: ignore[misc]
    """A data-parallel Train run without the services that one resident worker has no use for."""

    def _create_default_callbacks(self) -> list[Any]:
        return [c for c in super()._create_default_callbacks() if not isinstance(c, LEFT_OUT)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        return super()._initialize_and_run_controller(
            **{**arguments, "scaling_policy": OneWorker(self.scaling_config)}
        )


class OneWorker(FixedScalingPolicy):  # type: ignore[misc]
    """One worker for ever; its placement group alone asks an autoscaler for room."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class SlotWatch(WorkerGroupCallback):  # type: ignore[misc]
    """Runs in the controller: tells the pool where the worker is placed, and at once when it died."""

    def __init__(self, slot: str, pool: Any) -> None:
        self._slot, self._pool = slot, pool

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        handle = worker_group.get_worker_group_state().placement_group_handle
        self._pool.placed.remote(self._slot, handle.placement_group.id.hex())

    def after_worker_group_poll_status(self, worker_group_status: WorkerGroupPollStatus) -> None:
        """Raises SlotStopped, which ends the run, if the slot has died too often."""
        errors = worker_group_status.errors
        if errors:
            error = str(next(iter(errors.values())))
            if not ray.get(self._pool.died.remote(self._slot, error)):
                raise SlotStopped(error)


def resident_run(
    settings: SlotSettings, pool: Any, *, cpus: float, gpus: float, storage: Path
) -> ResidentTrainer:
    """The run of one slot; its ``fit`` returns when the pool stops.

    Args:
        settings: of the worker.
        pool: the pool actor.
        cpus, gpus: of the worker, fractions allowed.
        storage: a local folder for what Train writes about itself; nothing of it is read again.
    """
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    return ResidentTrainer(
        serve_slot,
        train_loop_config={"settings": settings, "pool": pool},
        scaling_config=ScalingConfig(num_workers=1, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name=f"slot-{settings.slot}",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[SlotWatch(settings.slot, pool)],
            worker_runtime_env={"env_vars": worker_variables(settings.threads)},
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def serve_slot(config: dict[str, Any]) -> None:
    """The training function that Train runs in the worker."""
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    redact_logging()
    open_sealed()
    pool = config["pool"]
    serve(config["settings"], lambda method, *arguments: ray.get(getattr(pool, method).remote(*arguments)))
