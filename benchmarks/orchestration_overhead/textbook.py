"""The textbook recipe: each Tune trial starts a Train run of its own; prints when each trial ended."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import ray
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from orchestrator.slots.cluster import start_ray


def train_loop(config: dict[str, Any]) -> None:
    import ray.train
    import workload

    for epoch in workload.epochs():
        ray.train.report({"epoch": epoch, "mean": epoch / workload.EPOCHS})


def trial(config: dict[str, Any]) -> None:
    TorchTrainer(
        train_loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=f"trial-{config['number']}", storage_path=config["folder"], callbacks=[TuneReportCallback()]
        ),
    ).fit()


class Clock(tune.Callback):  # type: ignore[misc]
    """Notes when each trial began and ended, and how many epochs it reported."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self.epochs: list[int] = []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.began.append(time.monotonic())

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended.append(time.monotonic())
        self.epochs.append(trial.last_result["epoch"])


def main() -> None:
    count = int(sys.argv[1])
    started = time.monotonic()
    start_ray(slots=1, cpus=1, gpus=0)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(trial, {"cpu": 0.1}),
            param_space={"number": tune.grid_search(list(range(count))), "folder": folder},
            tune_config=tune.TuneConfig(
                metric="mean", mode="max", max_concurrent_trials=1, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=folder, callbacks=[clock], verbose=0),
        ).fit()
        ray.shutdown()
    result = {
        "began": [t - started for t in clock.began],
        "ended": [t - started for t in clock.ended],
        "epochs": clock.epochs,
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
