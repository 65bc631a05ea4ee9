"""Operations to MLflow calls. Imports mlflow (seconds): only the writer thread imports this module."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # and fetching the run for it

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from orchestrator.tracking.outbox import Operation

for _name in ("mlflow", "alembic", "urllib3"):  # creating tables or a server away is no news for a terminal
    logging.getLogger(_name).setLevel(logging.ERROR)

METRICS, PARAMS, TAGS, TOTAL = 1000, 100, 100, 1000
"""What one ``log_batch`` takes."""

PARAM_LENGTH = 6000
TAG_LENGTH = 5000

PERMANENT = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
"""Refusals that a later attempt will meet again."""

KNOWN_RUNS = 2000
"""Runs whose id is remembered: those told of latest. Of earlier ones only that they exist; they are found by
their tag, which takes longer the more runs there are."""

RUN_TAG, PARENT_TAG, NAME_TAG = "mmap.run", "mlflow.parentRunId", "mlflow.runName"


class MlflowWriter:
    """Writes to one experiment, found or created by name. Every call may be repeated.

    Args:
        uri: tracking URI.
        experiment: its name.
        tags: of the experiment.
    """

    def __init__(self, uri: str, experiment: str, tags: dict[str, str]) -> None:
        self._client = MlflowClient(tracking_uri=uri)
        self._runs: OrderedDict[str, str] = OrderedDict()
        self._earlier: set[int] = set()
        found = self._client.get_experiment_by_name(experiment)
        self._is_new = found is None
        if found is None:
            self._experiment = self._client.create_experiment(experiment, tags=tags)
        else:
            self._experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(self._experiment)

    def write(self, operations: Sequence[Operation]) -> Iterator[tuple[Operation, str]]:
        """Apply operations, those of a run together; yields those refused for good, with the reason."""
        for run, group in _by_run(operations).items():
            try:
                self._write_run(run, group)
            except MlflowException as error:
                if error.error_code not in PERMANENT:
                    raise
                if error.error_code == "RESOURCE_DOES_NOT_EXIST" and self._runs.pop(run, None):
                    self._is_new = False
                yield from self._write_singly(run, group)

    def _write_singly(self, run: str, group: Sequence[Operation]) -> Iterator[tuple[Operation, str]]:
        for operation in group:
            try:
                self._write_run(run, [operation])
            except MlflowException as error:
                if error.error_code not in PERMANENT:
                    raise
                yield operation, str(error)

    def _write_run(self, run: str, group: Sequence[Operation]) -> None:
        begin = next((o for o in reversed(group) if o["op"] == "start"), None)
        run_id = self._find(run)
        name = {} if begin is None else {NAME_TAG: begin["name"]}
        tags = name | {key: value for o in group for key, value in o.get("tags", {}).items()}
        last = next((o for o in reversed(group) if o["op"] in ("start", "end")), None)
        if run_id is None:
            run_id = self._create(run, begin, tags)
            tags = {}
        elif begin is not None and last is begin:
            self._client.update_run(run_id, status="RUNNING")
        self._log(
            run_id,
            [
                Metric(key, value, time, step)
                for o in group
                for key, value, step, time in o.get("metrics", ())
            ],
            [Param(key, v[:PARAM_LENGTH]) for o in group for key, v in o.get("params", {}).items()],
            [RunTag(key, value[:TAG_LENGTH]) for key, value in tags.items()],
        )
        if last is not None and last["op"] == "end":
            self._client.set_terminated(run_id, status=last["status"], end_time=last["time"])

    def _find(self, run: str) -> str | None:
        if run not in self._runs and (not self._is_new or hash(run) in self._earlier):
            found = self._client.search_runs([self._experiment], f"tags.`{RUN_TAG}` = '{run}'", max_results=1)
            if found:
                self._remember(run, found[0].info.run_id)
        elif run in self._runs:
            self._runs.move_to_end(run)
        return self._runs.get(run)

    def _remember(self, run: str, run_id: str) -> None:
        self._runs[run] = run_id
        if len(self._runs) > KNOWN_RUNS:
            earlier, _ = self._runs.popitem(last=False)
            self._earlier.add(hash(earlier))

    def _create(self, run: str, begin: Operation | None, tags: dict[str, str]) -> str:
        """A run with its first tags: each call on the server is a transaction there."""
        tags = {NAME_TAG: run, **{key: value[:TAG_LENGTH] for key, value in tags.items()}, RUN_TAG: run}
        if begin is not None and begin["parent"] is not None:
            tags[PARENT_TAG] = self._find(begin["parent"]) or self._create(begin["parent"], None, {})
        start = None if begin is None else begin["time"]
        created = self._client.create_run(self._experiment, start_time=start, tags=tags)
        self._remember(run, created.info.run_id)
        return str(created.info.run_id)

    def _log(self, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        while metrics or params or tags:
            some_params, some_tags = params[:PARAMS], tags[:TAGS]
            some_metrics = metrics[: min(METRICS, TOTAL - len(some_params) - len(some_tags))]
            self._client.log_batch(run_id, some_metrics, some_params, some_tags, synchronous=True)
            metrics = metrics[len(some_metrics) :]
            params, tags = params[PARAMS:], tags[TAGS:]


def _by_run(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(operation["run"], []).append(operation)
    return groups
