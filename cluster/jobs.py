"""Studies as Ray jobs: started once, found again, followed, stopped with time to save.

A study has one job at a time. Its submission ids are made of the study's name, a hash of name and storage,
and a counter of attempts (``demo-1a2b3c4d-2``): whoever submits it again while one lives is given that one.
Of two who submit at the same moment Ray refuses the second, who then finds the first one's job.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from cluster.errors import ClusterError
from cluster.job import SETTINGS, STORAGE, STUDY, Job, Request, job_of

STOP_WAIT = 30
"""Seconds from a stop to SIGKILL. A driver needs at most 13 from the first signal; Ray's own default is 3."""

PATIENCE = 120.0
"""Seconds that a cluster may not answer while somebody waits for a job."""

POLL = 1.0
"""Seconds between two looks at a job."""

NO_AGENT = "No available agent"
"""What the server of a head node says until all of its processes are up."""


class Client(Protocol):
    """What is used of ``ray.job_submission.JobSubmissionClient``."""

    def submit_job(self, **options: Any) -> str: ...
    def stop_job(self, job_id: str) -> bool: ...
    def list_jobs(self) -> list[Any]: ...
    def get_job_info(self, job_id: str) -> Any: ...
    def get_job_logs(self, job_id: str) -> str: ...
    def tail_job_logs(self, job_id: str) -> Any: ...


class Jobs:
    """The jobs of one cluster that run studies.

    Args:
        client: of Ray.
        address: for messages.
    """

    def __init__(self, client: Client, address: str) -> None:
        self._client, self.address = client, address

    def all(self) -> list[Job]:
        """All jobs that run this software, the latest first."""
        with self._reported():
            found = [job_of(details) for details in self._client.list_jobs() if details.submission_id]
        jobs = [job for job in found if job.study]
        return sorted(jobs, key=lambda job: (job.started or 0.0, job.attempt), reverse=True)

    def find(self, name: str) -> Job:
        """The job of that id, or the latest one of that study.

        Raises:
            ClusterError: there is none, or studies of that name have their records in several places.
        """
        jobs = self.all()
        exact = [job for job in jobs if job.id == name]
        found = exact or [job for job in jobs if job.study == name]
        if not found:
            known = ", ".join(dict.fromkeys(job.study for job in jobs)) or "none"
            raise ClusterError(
                f"no job on {self.address} runs a study or has an id named {name!r}",
                where="STUDY",
                fix=f"studies with jobs there: {known}; orchestrator jobs lists them",
            )
        live = [job for job in found if not job.over]
        stems = {job.id.rpartition("-")[0] for job in live or found}
        if len(stems) > 1:
            raise ClusterError(
                f"studies named {name!r} have jobs in several storages",
                where="STUDY",
                fix=f"give an id: {', '.join(job.id for job in live or found)}",
            )
        return (live or found)[0]

    def get(self, job_id: str) -> Job:
        with self._reported():
            return job_of(self._client.get_job_info(job_id))

    def attempts(self, request: Request) -> list[Job]:
        """All jobs of this study and storage, the latest first."""
        pattern = re.compile(rf"{re.escape(request.stem)}-\d+")
        jobs = [job for job in self.all() if pattern.fullmatch(job.id)]
        return sorted(jobs, key=lambda job: job.attempt, reverse=True)

    def submit(
        self, request: Request, working_dir: Callable[[], AbstractContextManager[Path]]
    ) -> tuple[Job, bool]:
        """Start a job, unless one of this study lives.

        Args:
            request: what is to run.
            working_dir: makes the folder that is sent; called only if a job is started.

        Returns:
            The job, and whether this call started it.

        Raises:
            ClusterError: a job of this study runs with other settings, or the cluster refuses.
        """
        until = time.monotonic() + PATIENCE
        while True:
            attempts = self.attempts(request)
            if attempts and not attempts[0].over:
                _check_same(attempts[0], request)
                return attempts[0], False
            job_id = f"{request.stem}-{attempts[0].attempt + 1 if attempts else 1}"
            with working_dir() as folder:
                try:
                    with self._reported():
                        self._client.submit_job(
                            entrypoint=shlex.join(request.command),
                            submission_id=job_id,
                            runtime_env={"working_dir": str(folder), "env_vars": dict(request.variables)},
                            metadata={
                                STUDY: request.study,
                                STORAGE: request.shown_storage,
                                SETTINGS: request.settings,
                            },
                        )
                except ClusterError as error:
                    if "already exists" in error.problem:
                        continue  # somebody else was faster
                    if NO_AGENT not in error.problem or time.monotonic() > until:
                        raise
                    time.sleep(POLL)  # the head has only just come up
                    continue
            return self.get(job_id), True

    def stop(self, job_id: str, *, patience: float = STOP_WAIT + 15.0) -> Job:
        """Ask a job to save and end, and wait until it has ended.

        Raises:
            ClusterError: it did not end within ``patience`` seconds.
        """
        with self._reported():
            self._client.stop_job(job_id)
        until = time.monotonic() + patience
        while not (job := self.get(job_id)).over:
            if time.monotonic() > until:
                raise ClusterError(
                    f"job {job_id} was told to stop, but is still {job.state} after {patience:.0f} s",
                    where=self.address,
                    fix=f"look at orchestrator logs {job_id}; Ray will kill it",
                )
            time.sleep(POLL / 2)
        return job

    def wait(self, job_id: str, tell: Callable[[Job], None] = lambda job: None) -> Job:
        """Wait for a job to end; a cluster that is away for a while is waited for.

        Args:
            job_id: of the job.
            tell: called whenever its state has changed.
        """
        state, heard = "", time.monotonic()
        while True:
            try:
                job = self.get(job_id)
            except Unreachable:
                if time.monotonic() - heard > PATIENCE:
                    raise
            else:
                heard = time.monotonic()
                if job.state != state:
                    state = job.state
                    tell(job)
                if job.over:
                    return job
            time.sleep(POLL)

    def logs(self, job_id: str) -> str:
        """Everything that the driver of a job has printed."""
        with self._reported():
            return self._client.get_job_logs(job_id)

    def follow(self, job_id: str, write: Callable[[str], None]) -> Job:
        """Write what the driver of a job prints, from its beginning, until it ends."""
        shown = 0

        async def tail() -> None:
            nonlocal shown
            passed = 0  # a new connection begins at the start of the log
            async for text in self._client.tail_job_logs(job_id):
                fresh = text[max(0, shown - passed) :]
                passed += len(text)
                if fresh:
                    shown = max(shown, passed)
                    write(fresh)

        heard = time.monotonic()
        while True:
            before = shown
            with contextlib.suppress(Exception):  # whatever broke the connection, the job's state decides
                asyncio.run(tail())
            if shown > before:
                heard = time.monotonic()
            try:
                job = self.get(job_id)
                if job.over:
                    write(self.logs(job_id)[shown:])
                    return job
                heard = time.monotonic()
            except Unreachable:
                if time.monotonic() - heard > PATIENCE:
                    raise
            time.sleep(POLL)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what Ray's client raises into errors that say what to change."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise refused(self.address) from error
        except OSError as error:  # requests' own errors are among them
            raise unreachable(self.address) from error
        except (RuntimeError, ValueError) as error:
            said = re.sub(r"Traceback .*\n(?=\S)", "", str(error), flags=re.DOTALL).strip()
            raise ClusterError(
                said, where=self.address, fix="orchestrator jobs shows what runs there"
            ) from error


class Unreachable(ClusterError):
    """The cluster does not answer."""


def refused(address: str) -> ClusterError:
    """The error for a cluster that does not accept the token."""
    return ClusterError(
        "the cluster refuses this token",
        where=address,
        fix="give the cluster's own: on its head node, ray get-auth-token prints it; "
        "name a file with it in RAY_AUTH_TOKEN_PATH",
    )


def unreachable(address: str) -> Unreachable:
    """The error for a cluster that does not answer."""
    return Unreachable(
        "no Ray dashboard answers there",
        where=address,
        fix="give --address http://HEAD:8265, or open a tunnel: ssh -N -L 8265:127.0.0.1:8265 HEAD",
    )


def _check_same(job: Job, request: Request) -> None:
    if job.settings and job.settings != request.settings:
        raise ClusterError(
            f"job {job.id} of study {request.study!r} is {job.state} with other settings: {job.command}",
            where="STUDY",
            fix=f"wait for it, or orchestrator stop {job.id} and submit again: nothing finished is lost",
        )
