"""Environment for Ray, and that what is overridden of it still exists; no Ray is started."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.driver import Options, run_study, session
from orchestrator.slots import environment
from orchestrator.study import load_plan


def test_what_the_user_has_set_stays() -> None:
    variables = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "7", "RAY_AUTH_MODE": "disabled"}
    environment.prepare(variables)
    assert variables["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "7"
    assert variables["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"
    assert "RAY_AUTH_TOKEN" not in variables


def test_a_local_ray_gets_token_authentication_with_a_token_of_its_own() -> None:
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    environment.prepare(first)
    environment.prepare(second)
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64 and first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    again = dict(first)
    environment.prepare(again)
    assert again == first


def test_a_clusters_authentication_and_network_are_left_as_they_are() -> None:
    variables = {"RAY_ADDRESS": "127.0.0.1:6379"}
    environment.prepare(variables)
    local = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_worker_niceness", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
    assert not local & set(variables)


@pytest.mark.parametrize("address", ["", "local"])
def test_an_address_that_names_no_cluster_means_a_new_local_ray(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    """A bare ``ray.init`` would join any Ray of this machine."""
    import ray

    from orchestrator.slots.cluster import start_ray

    variables = {"RAY_ADDRESS": address}
    environment.prepare(variables)
    assert variables["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" in variables
    started: list[dict[str, Any]] = []
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: started.append(options))
    start_ray(slots=1, cpus=1.0, gpus=0.0)
    assert [options.get("address") for options in started] == ["local"]
    assert load_plan("demo", [f"storage={tmp_path}"]).slots is not None


def test_a_machine_too_busy_for_ray_ends_the_study_with_a_reason_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ray

    from orchestrator.slots.cluster import ATTEMPTS, RayNotUp, start_ray

    begun: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        begun.append(options)
        raise Exception("The current node timed out during startup. The GCS has become overloaded.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(session, "_import_train", lambda: None)
    with pytest.raises(RayNotUp, match="did not come up in 3 attempts"):
        start_ray(slots=1, cpus=1.0, gpus=0.0)
    assert len(begun) == ATTEMPTS
    plan = load_plan("demo", [f"storage={tmp_path}", "name=unit", "search.trials=1"])
    outcome = run_study(plan, options=Options(tracked=False))
    assert outcome.state == "failed" and "Ray did not come up" in (outcome.error or "")
    assert "run the same command again" in outcome.fix


def test_what_makes_a_local_ray_listen_on_loopback_exists_in_the_installed_version() -> None:
    from ray._private import ray_constants, services

    variables: dict[str, str] = {}
    environment.prepare(variables)
    assert variables[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] == "0"
    source = inspect.getsource(services.get_node_ip_address)
    assert "if not ray_constants.ENABLE_RAY_CLUSTER" in source and "get_localhost_ip()" in source


def test_a_worker_that_never_starts_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train itself would try again for ever."""
    from orchestrator.slots import resident_run as module

    told: list[tuple[str, str, float]] = []

    class Died:
        def remote(self, *arguments: Any) -> bool:
            told.append(arguments)
            return len(told) < 3

    def start(self: Any) -> None:
        raise module.WorkerGroupStartupFailedError("failed") from ImportError("No module named 'open_clip'")

    monkeypatch.setattr(module.ray, "get", lambda answer: answer)
    monkeypatch.setattr(module.WorkerGroup, "_start", start)
    group = module.SlotGroup.__new__(module.SlotGroup)
    group._callbacks = [module.SlotWatch("gpu-3:0", SimpleNamespace(died=Died()), 90.0)]
    for _ in range(2):
        with pytest.raises(module.WorkerGroupStartupFailedError):
            group._start()
    with pytest.raises(module.WorkersDied, match="open_clip"):
        group._start()
    assert {(slot, grace) for slot, _, grace in told} == {("gpu-3:0", 90.0)}


def test_threads_of_a_worker_are_counted_for_every_library() -> None:
    assert {
        environment.worker_variables(3)[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")
    } == {"3"}


def test_what_is_overridden_of_ray_exists_in_the_installed_version() -> None:
    from ray._private import node, parameter, worker
    from ray.train.v2._internal.execution.controller import controller
    from ray.train.v2._internal.execution.scaling_policy.scaling_policy import ScalingPolicy
    from ray.train.v2.api import data_parallel_trainer

    trainer = data_parallel_trainer.DataParallelTrainer
    assert "scaling_policy=" in inspect.getsource(trainer.fit)
    assert "callbacks=self._create_default_callbacks()" in inspect.getsource(trainer.fit)
    assert "DatasetsCallback(" in inspect.getsource(trainer._create_default_callbacks)
    assert "PlacementGroupCleanerCallback()" in inspect.getsource(trainer._create_default_callbacks)
    assert {"after_controller_start", "_maybe_send_resource_request"} <= set(vars(ScalingPolicy))
    assert "after_worker_group_poll_status" in inspect.getsource(controller.WorkerGroup)
    assert "self._create_placement_group(" in inspect.getsource(controller.WorkerGroup._start_impl)
    assert "worker_group._start()" in inspect.getsource(controller.WorkerGroup.create)
    assert "self.worker_group_cls.create(" in inspect.getsource(controller.TrainController)
    assert "controller.run.remote()" in inspect.getsource(trainer._initialize_and_run_controller)
    assert "ray._private.parameter.RayParams(" in inspect.getsource(worker.init)
    assert {"no_monitor", "include_log_monitor"} <= set(
        inspect.signature(parameter.RayParams.__init__).parameters
    )
    assert "self.start_api_server(" in inspect.getsource(node.Node.start_head_processes)
