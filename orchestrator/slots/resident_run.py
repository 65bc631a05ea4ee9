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
import threading
from pathlib import Path
from typing import Any

import ray
from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE,
    get_env_vars_to_propagate,
)
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup, WorkerGroupPollStatus
from ray.train.v2._internal.execution.worker_group.placement_group_handle import PlacementGroupHandle
from ray.train.v2.api.config import LoggingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.secrets import decrypt_environment
from orchestrator.redaction import redact_logging
from orchestrator.slots.environment import worker_variables
from orchestrator.slots.placement import SlotSize
from orchestrator.slots.worker import SlotSettings, serve

LEFT_OUT = (DatasetsCallback, PlacementGroupCleanerCallback)


class WorkersDied(Exception):
    """The workers of a slot died too often without finishing anything."""


class ResidentTrainer(DataParallelTrainer):  # type: ignore[misc]
    """A data-parallel Train run without the services that one resident worker has no use for.

    Train has no way to end a run from outside. A controller whose worker finds no room asks for it for ever,
    and holds up the thread that called ``fit``: so ``end`` kills the controller, and ``fit`` raises.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ended = threading.Event()
        self._controller: Any = None

    def end(self) -> None:
        """End the run, from any thread; its worker dies with the controller."""
        self._ended.set()
        if self._controller is not None:
            ray.kill(self._controller)

    def _create_default_callbacks(self) -> list[Any]:
        return [c for c in super()._create_default_callbacks() if not isinstance(c, LEFT_OUT)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        """As Train's own, with parts of ours; keeps the controller."""
        variables = get_env_vars_to_propagate()
        variables.setdefault(
            RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR, DEFAULT_RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_VALUE
        )
        kind = ray.remote(
            num_cpus=0,
            label_selector=on_node(ray.get_runtime_context().get_node_id()),
            runtime_env={"env_vars": variables},
        )(SlotController)
        self._controller = kind.remote(**{**arguments, "scaling_policy": OneWorker(self.scaling_config)})
        if self._ended.is_set():
            ray.kill(self._controller)
        ray.get(self._controller.run.remote())
        return ray.get(self._controller.get_result.remote())


class OneWorker(FixedScalingPolicy):  # type: ignore[misc]
    """One worker for ever; its placement group alone asks an autoscaler for room."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


class SlotGroup(WorkerGroup):  # type: ignore[misc]
    """Tells what it reserves before it waits for it, so that others can give it back, and failed starts."""

    def _create_placement_group(self, *arguments: Any) -> PlacementGroupHandle:
        handle = super()._create_placement_group(*arguments)
        self._watch.reserved(handle.placement_group.id.hex())
        return handle

    def _start(self) -> None:
        """Train would start a worker again for ever that dies before it runs anything."""
        try:
            super()._start()
        except WorkerGroupStartupFailedError as failure:
            self._watch.died(f"its worker did not start: {failure.__cause__ or failure}")
            raise

    @property
    def _watch(self) -> SlotWatch:
        return next(callback for callback in self._callbacks if isinstance(callback, SlotWatch))


class SlotController(TrainController):  # type: ignore[misc]
    """Train's controller with a worker group of ours."""

    worker_group_cls = SlotGroup


class SlotWatch(WorkerGroupCallback):  # type: ignore[misc]
    """Runs in the controller: tells the pool what is reserved for the worker, and at once when it died."""

    def __init__(self, slot: str, pool: Any, grace: float) -> None:
        self._slot, self._pool, self._grace = slot, pool, grace

    def reserved(self, placement_group: str) -> None:
        self._pool.placed.remote(self._slot, placement_group)

    def after_worker_group_poll_status(self, worker_group_status: WorkerGroupPollStatus) -> None:
        errors = worker_group_status.errors
        if errors:
            self.died(str(next(iter(errors.values()))))

    def died(self, error: str) -> None:
        """Tell the pool. Raises WorkersDied, which ends the run, if the slot has died too often."""
        if not ray.get(self._pool.died.remote(self._slot, error, self._grace)):
            raise WorkersDied(error)


def resident_run(
    settings: SlotSettings, pool: Any, *, size: SlotSize, storage: Path, node: str = "", grace: float = 0.0
) -> ResidentTrainer:
    """The run of one slot; its ``fit`` returns when the pool stops.

    Args:
        settings: of the worker.
        pool: the pool actor.
        size: of the worker.
        storage: a local folder for what Train writes about itself; nothing of it is read again.
        node: Ray's id of the only node that the worker may run on; empty: wherever there is room.
        grace: seconds in which a death may turn out to be that of the node, see ``Pool.died``.
    """
    resources = {"CPU": size.cpus, **({"GPU": size.gpus} if size.gpus else {})}
    return ResidentTrainer(
        serve_slot,
        train_loop_config={"settings": settings, "pool": pool},
        scaling_config=ScalingConfig(
            num_workers=1,
            use_gpu=size.gpus > 0,
            resources_per_worker=resources,
            label_selector=on_node(node) if node else None,
        ),
        run_config=RunConfig(
            name="slot",
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[SlotWatch(settings.slot, pool, grace)],
            worker_runtime_env={"env_vars": worker_variables(settings.threads)},
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def on_node(node: str) -> dict[str, str]:
    """The selector of the one node of that id: Ray labels every node with it."""
    return {ray._raylet.RAY_NODE_ID_KEY: node}


def serve_slot(config: dict[str, Any]) -> None:
    """The training function that Train runs in the worker."""
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    redact_logging()
    decrypt_environment()
    pool = config["pool"]
    serve(config["settings"], lambda method, *arguments: ray.get(getattr(pool, method).remote(*arguments)))
