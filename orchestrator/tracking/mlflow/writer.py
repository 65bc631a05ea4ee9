"""Operations to MLflow calls. Imports mlflow (seconds): only the writer's process imports this module."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = (
    "0"  # a run that was created without an answer is looked for first
)
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # and fetching the run for it

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from orchestrator.tracking.backend import Connection, Delivery
from orchestrator.tracking.mlflow.answers import Answer, kind_of
from orchestrator.tracking.mlflow.attachments import log_inputs, put_file
from orchestrator.tracking.mlflow.backend import RUN_TAG, STUDY_TAG, Mlflow, artifact_location
from orchestrator.tracking.mlflow.known_metrics import KnownMetrics
from orchestrator.tracking.mlflow.views import lacking_tags
from orchestrator.tracking.operations import TRANSIENT_TAGS, Operation

for _name in ("mlflow", "alembic", "urllib3"):  # creating tables or a server away is no news for a terminal
    logging.getLogger(_name).setLevel(logging.ERROR)

METRICS, PARAMS, TAGS, TOTAL = 1000, 100, 100, 1000
"""What one ``log_batch`` takes."""

PARAM_LENGTH = 6000
TAG_LENGTH = 5000

KNOWN_RUNS = 2000
"""Runs whose id is remembered: those told of latest. Earlier ones are found by their tags, which takes longer
the more runs there are."""

CELL_TAG = "cell"
PARENT_TAG, NAME_TAG = "mlflow.parentRunId", "mlflow.runName"

PARTS = ("params", "tags", "files")
"""Values of an operation by name."""


class MlflowWriter(Mlflow):
    """Writes the runs of one study to an experiment, found or created by name.

    A run is found by two tags, its own name and the study's id: studies of one name do not share runs.
    """

    def __init__(self, to: Connection) -> None:
        super().__init__(to)
        self._client = MlflowClient(tracking_uri=to.uri)
        self._study = to.study
        self._experiment = ""
        self._runs: OrderedDict[str, str] = OrderedDict()
        self._created: set[int] = set()
        self._unsure: set[str] = set()
        self._metrics = KnownMetrics(self._client)
        self._is_new = False

    def open(self) -> str | None:
        """Find, restore or create the experiment; what it remembers of the study, None if nothing."""
        found = self._client.get_experiment_by_name(self.to.experiment)
        if found is None:
            place = artifact_location(self.to.uri, self.to.experiment)
            self._client.create_experiment(self.to.experiment, artifact_location=place, tags=self.to.tags)
            found = self._client.get_experiment_by_name(self.to.experiment)
            assert found is not None, "it was created just now"
        elif found.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(found.experiment_id)
        self._experiment = str(found.experiment_id)
        self._runs.clear()
        self._created.clear()
        heard: str | None = found.tags.get(self._mark)
        self._is_new = heard is None and not self.to.adopts
        for key, value in lacking_tags(self.to, found.tags, at=round(time.time() * 1000)).items():
            self._client.set_experiment_tag(self._experiment, key, value)
        if heard is None:
            self._client.set_experiment_tag(self._experiment, self._mark, "")
        return heard

    def finish(self, mark: str) -> None:
        """Let the experiment remember up to where it was told."""
        self._client.set_experiment_tag(self._experiment, self._mark, mark)

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        """Apply operations, those of a run together.

        Raises:
            Exception: the server is away; all of them may be told again.
        """
        delivery = Delivery()
        if not self._experiment:
            delivery.lost = self.open() is None
        elif self._is_elsewhere():
            self.open()
            delivery.lost = True
        for run, group in _by_run(operations).items():
            self._deliver(run, group, delivery, late)
        return delivery

    def _deliver(self, run: str, group: Sequence[Operation], delivery: Delivery, late: bool) -> None:
        """Write operations of one run; in parts, down to single values, as far as they are not taken."""
        error = self._try(run, group, late)
        if error is not None and kind_of(error) is Answer.REFUSED and self._recovers(run):
            delivery.lost = True
            error = self._try(run, group, late)
        if error is None:
            return
        kind = kind_of(error)
        if kind is Answer.AWAY or (kind is Answer.TROUBLE and not self._takes_writes()):
            raise error
        parts = [[operation] for operation in group]
        if len(group) == 1 and kind is Answer.REFUSED:
            parts = _parts(group[0])
        if len(parts) > 1:
            for part in parts:
                self._deliver(run, part, delivery, late)
        elif kind is Answer.REFUSED:
            delivery.refused.append((group[0], str(error)))
        else:
            delivery.undecided.append((group[0], str(error)))

    def _try(self, run: str, group: Sequence[Operation], late: bool) -> MlflowException | None:
        try:
            self._write_run(run, group, late)
        except MlflowException as error:
            return error
        return None

    def _write_run(self, run: str, group: Sequence[Operation], late: bool) -> None:
        begin = next((o for o in reversed(group) if o["op"] == "start"), None)
        last = next((o for o in reversed(group) if o["op"] in ("start", "end")), None)
        run_id, there = self._find(run, begin)
        name = {} if begin is None else {NAME_TAG: begin["name"]}
        tags = name | {key: value for o in group for key, value in o.get("tags", {}).items()}
        if run_id is None:
            run_id = self._create(run, begin, tags)
            tags = {}
        elif begin is not None:
            if last is begin and not late:
                self._client.update_run(run_id, status="RUNNING")
            there = there or self._client.get_run(run_id)
            self._metrics.look_at(there)
            for tag in TRANSIENT_TAGS:
                if tag in there.data.tags and tag not in tags and not late:
                    self._client.delete_tag(run_id, tag)
            tags |= {STUDY_TAG: self._study, **self._parent_of(begin)}
        known = {} if there is None else there.data.params
        params = {key: value[:PARAM_LENGTH] for o in group for key, value in o.get("params", {}).items()}
        points = [point for o in group for point in o.get("metrics", ())]
        fresh = self._metrics.fresh(run_id, points)
        self._log(
            run_id,
            [Metric(key, value, time, step) for key, value, step, time in fresh],
            [Param(key, value) for key, value in params.items() if known.get(key) != value],
            [RunTag(key, value[:TAG_LENGTH]) for key, value in tags.items()],
        )
        self._metrics.add(run_id, fresh)
        log_inputs(self._client, run_id, [given for o in group for given in o.get("inputs", ())])
        for path, file in ((path, file) for o in group for path, file in o.get("files", {}).items()):
            put_file(self._client, run_id, path, file)
        if last is not None and last["op"] == "end":
            self._client.set_terminated(run_id, status=last["status"], end_time=last["time"])

    # Finding runs

    def _find(self, run: str, begin: Operation | None) -> tuple[str | None, Run | None]:
        """Id of a run, and the run itself if it was looked up just now."""
        if run in self._runs:
            self._runs.move_to_end(run)
            return self._runs[run], None
        if self._is_new and hash(run) not in self._created and run not in self._unsure:
            return None, None
        found = self._search(run, mine=True)
        if not found and self.to.adopts and begin is not None:
            found = [r for r in self._search(run, mine=False) if self._is_mine(r, begin)]
        if not found:
            return None, None
        first = found[0]
        for twin in found[1:]:  # created by calls whose answer was lost
            if twin.info.lifecycle_stage == LifecycleStage.ACTIVE:
                self._client.delete_run(twin.info.run_id)
        if first.info.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_run(first.info.run_id)
        self._remember(run, first.info.run_id)
        self._metrics.look_at(first)
        return str(first.info.run_id), first

    def _search(self, run: str, *, mine: bool) -> list[Run]:
        """Runs of that name: of this study, or of none; those not deleted first, then the oldest."""
        wanted = f"tags.`{RUN_TAG}` = {_quoted(run)}"
        if mine:
            wanted += f" AND tags.`{STUDY_TAG}` = '{self._study}'"
        view = ViewType.ALL if mine else ViewType.ACTIVE_ONLY
        found = self._client.search_runs([self._experiment], wanted, run_view_type=view, max_results=1000)
        found = [
            r for r in found if r.data.tags.get(RUN_TAG) == run and (mine or STUDY_TAG not in r.data.tags)
        ]
        deleted = LifecycleStage.DELETED
        return sorted(
            found, key=lambda r: (r.info.lifecycle_stage == deleted, r.info.start_time, r.info.run_id)
        )

    def _is_mine(self, run: Run, begin: Operation) -> bool:
        """Whether a run told before studies had ids is of this one: it is, or holds, one of the cells."""
        if begin["parent"] is not None:
            return True  # its name has the key of the cell
        children = self._client.search_runs(
            [self._experiment], f"tags.`{PARENT_TAG}` = '{run.info.run_id}'", max_results=1000
        )
        if children:
            return any(child.data.tags.get(CELL_TAG) in begin["cells"] for child in children)
        return all(run.data.params.get(key) == value for key, value in begin["params"].items())

    def _remember(self, run: str, run_id: str) -> None:
        self._runs[run] = run_id
        if len(self._runs) > KNOWN_RUNS:
            earlier, its_id = self._runs.popitem(last=False)
            self._created.add(hash(earlier))
            self._metrics.forget(its_id)

    def _create(self, run: str, begin: Operation | None, tags: Mapping[str, str]) -> str:
        """A run with its first tags: each call on the server is a transaction there."""
        cut = {key: value[:TAG_LENGTH] for key, value in tags.items()}
        first = {NAME_TAG: run, **cut, RUN_TAG: run, STUDY_TAG: self._study}
        if begin is not None:
            first |= self._parent_of(begin)
        start = None if begin is None else begin["time"]
        self._unsure.add(run)
        created = self._client.create_run(self._experiment, start_time=start, tags=first)
        self._unsure.discard(run)
        self._remember(run, created.info.run_id)
        return str(created.info.run_id)

    def _parent_of(self, begin: Operation) -> dict[str, str]:
        """The tag that puts a run below another, which is made if it is not there."""
        if begin["parent"] is None:
            return {}
        parent, _ = self._find(begin["parent"], None)
        return {PARENT_TAG: parent or self._create(begin["parent"], None, {})}

    # What became of them

    @property
    def _mark(self) -> str:
        return f"{STUDY_TAG}/{self._study}"

    def _is_elsewhere(self) -> bool:
        """Whether the experiment is no longer the one that was opened, e.g. in another database."""
        try:
            found = self._client.get_experiment(self._experiment)
        except MlflowException as error:
            if kind_of(error) is not Answer.REFUSED:
                raise
            return True
        return found.lifecycle_stage != LifecycleStage.ACTIVE or self._mark not in found.tags

    def _recovers(self, run: str) -> bool:
        """Find out whether a refusal comes from a deleted or missing run, and make up for it."""
        if self._is_elsewhere():
            self.open()
            return True
        run_id = self._runs.get(run)
        if run_id is None:
            return False
        try:
            found = self._client.get_run(run_id)
        except MlflowException as error:
            if kind_of(error) is not Answer.REFUSED:
                raise
        else:
            if found.info.lifecycle_stage == LifecycleStage.ACTIVE:
                return False
        self._runs.pop(run)
        self._unsure.add(run)  # looked for by its tags, and restored, before it is created
        return True

    def _takes_writes(self) -> bool:
        """Whether the server takes anything at all, so that trouble is of the one operation."""
        try:
            self._client.set_experiment_tag(self._experiment, "mmap.alive", "1")
        except MlflowException:
            return False
        return True

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


def _parts(operation: Operation) -> list[list[Operation]]:
    """A refused operation as several, so that one bad value takes no others with it: halves of its values."""
    whole: dict[str, Any] = dict(operation)
    values: list[tuple[str, Any]] = [("metrics", point) for point in operation.get("metrics", ())]
    for kind in PARTS:
        values += [(kind, item) for item in whole.get(kind, {}).items()]
    values += [("inputs", given) for given in operation.get("inputs", ())]
    if len(values) < 2:
        return [[operation]]
    half = len(values) // 2
    parts = []
    for some in (values[:half], values[half:]):
        part = dict(whole)
        for kind in ("metrics", "inputs"):
            if kind in whole:
                part[kind] = [value for of, value in some if of == kind]
        for kind in PARTS:
            if kind in whole:
                part[kind] = dict(value for of, value in some if of == kind)
        parts.append([cast("Operation", part)])
    return parts


def _quoted(text: str) -> str:
    """A string in MLflow's filter language, which has no escape for quotation marks."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise MlflowException(f"a run cannot be found by a name with both quotation marks: {text}")
