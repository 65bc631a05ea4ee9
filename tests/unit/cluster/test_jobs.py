"""Attempts at a study, on a job server in memory that answers as Ray's does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import jobs as jobs_module
from cluster.errors import ClusterError
from cluster.job import Request
from cluster.jobs import Jobs, Unreachable


class Server:
    """The part of ``JobSubmissionClient`` that is used, with its errors."""

    def __init__(self) -> None:
        self.known: dict[str, SimpleNamespace] = {}
        self.log = "first\nsecond\n"
        self.away = self.starting = 0
        self.tails = [["fi", "rst\nsec"], ["first\nsec", "ond\n"]]

    def submit_job(self, *, entrypoint: str, submission_id: str, **options: Any) -> str:
        if submission_id in self.known:
            raise RuntimeError(
                "Request failed with status code 500: Traceback (most recent call last):\n  File x\n"
                f"ValueError: Job with submission_id {submission_id} already exists."
            )
        if self.starting:
            self.starting -= 1
            raise RuntimeError("Request failed with status code 500: No available agent to submit job.")
        assert (Path(options["runtime_env"]["working_dir"]) / "marker").exists()
        self.known[submission_id] = SimpleNamespace(
            submission_id=submission_id,
            entrypoint=entrypoint,
            metadata=options["metadata"],
            status=SimpleNamespace(value="PENDING"),
            driver_exit_code=None,
            start_time=1000 * (1 + len(self.known)),
            end_time=None,
            message="",
        )
        return submission_id

    def list_jobs(self) -> list[Any]:
        return list(self.known.values())

    def get_job_info(self, job_id: str) -> Any:
        if self.away:
            self.away -= 1
            raise ConnectionError("refused")
        if job_id not in self.known:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist.")
        return self.known[job_id]

    def stop_job(self, job_id: str) -> bool:
        self.end(job_id, "STOPPED")
        return True

    def get_job_logs(self, job_id: str) -> str:
        return self.log

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for text in self.tails.pop(0):
            yield text
        if self.tails:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        self.end(job_id, "SUCCEEDED")

    def end(self, job_id: str, status: str, exit_code: int | None = None) -> None:
        self.known[job_id].status = SimpleNamespace(value=status)
        self.known[job_id].driver_exit_code = exit_code


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(jobs_module, "POLL", 0.001)
    return Server()


@pytest.fixture
def jobs(server: Server) -> Jobs:
    return Jobs(server, "http://head:8265")


def request(storage: str = "/shared", settings: str = "s", study: str = "demo") -> Request:
    return Request(
        study=study,
        storage=storage,
        shown_storage=storage,
        settings=settings,
        command=["python", "-m", "orchestrator", "sweep", study, "seeds=[1, 2]"],
    )


def submit(jobs: Jobs, folder: Path, asked: Request) -> tuple[str, bool]:
    @contextlib.contextmanager
    def working_dir() -> Iterator[Path]:
        (folder / "marker").touch()
        yield folder

    job, started = jobs.submit(asked, working_dir)
    return job.id, started


def test_a_second_submission_attaches_and_one_after_the_end_is_a_new_attempt(
    server: Server, jobs: Jobs, tmp_path: Path
) -> None:
    first, started = submit(jobs, tmp_path, request())
    assert started and first == f"{request().stem}-1"
    assert submit(jobs, tmp_path, request()) == (first, False)
    for attempt, status in enumerate(["STOPPED", "FAILED", "SUCCEEDED"], start=2):
        server.end(f"{request().stem}-{attempt - 1}", status)
        assert submit(jobs, tmp_path, request()) == (f"{request().stem}-{attempt}", True)


def test_attempts_are_counted_as_numbers(server: Server, jobs: Jobs, tmp_path: Path) -> None:
    for attempt in range(1, 12):
        assert submit(jobs, tmp_path, request()) == (f"{request().stem}-{attempt}", True)
        server.end(f"{request().stem}-{attempt}", "STOPPED")


def test_studies_of_one_name_in_two_storages_are_two(jobs: Jobs, tmp_path: Path) -> None:
    first, _ = submit(jobs, tmp_path, request("/shared/a"))
    second, started = submit(jobs, tmp_path, request("/shared/b"))
    assert started and first != second
    with pytest.raises(ClusterError, match=f"several storages(.|\n)*{first}"):
        jobs.find("demo")
    assert jobs.find(first).id == first


def test_a_job_with_other_settings_is_not_attached_to(jobs: Jobs, tmp_path: Path) -> None:
    submit(jobs, tmp_path, request(settings="a"))
    with pytest.raises(ClusterError, match=r"other settings: python -m orchestrator sweep demo 'seeds"):
        submit(jobs, tmp_path, request(settings="b"))


def test_of_two_who_submit_at_once_the_second_gets_the_job_of_the_first(
    server: Server, jobs: Jobs, tmp_path: Path
) -> None:
    @contextlib.contextmanager
    def working_dir() -> Iterator[Path]:
        (tmp_path / "marker").touch()
        submit(Jobs(server, ""), tmp_path, request())
        yield tmp_path

    job, started = jobs.submit(request(), working_dir)
    assert (job.id, started) == (f"{request().stem}-1", False)


def test_a_head_that_has_only_just_come_up_is_waited_for(
    server: Server, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.starting = 2
    assert submit(jobs, tmp_path, request())[1]
    server.starting = 10**6
    monkeypatch.setattr(jobs_module, "PATIENCE", 0.0)
    with pytest.raises(ClusterError, match="No available agent"):
        submit(jobs, tmp_path, request(study="other"))


def test_a_study_is_found_by_its_live_job(server: Server, jobs: Jobs, tmp_path: Path) -> None:
    first, _ = submit(jobs, tmp_path, request())
    server.end(first, "STOPPED")
    second, _ = submit(jobs, tmp_path, request())
    assert jobs.find("demo").id == second and jobs.find(first).state == "stopped"
    with pytest.raises(ClusterError, match="studies with jobs there: demo"):
        jobs.find("dmeo")


def test_jobs_of_rays_own_command_line_are_listed_by_their_study(server: Server, jobs: Jobs) -> None:
    for number, command in enumerate(
        [
            "python -m orchestrator sweep --retry-failed demo storage=/shared",
            "python -m orchestrator sweep studies/birds.yaml",
            "orchestrator confirm demo",
            "python train.py --orchestrator sweep",
        ]
    ):
        server.known[f"raysubmit_{number}"] = SimpleNamespace(
            submission_id=f"raysubmit_{number}",
            entrypoint=command,
            metadata=None,
            status="RUNNING",
            driver_exit_code=None,
            start_time=number,
            end_time=None,
            message=None,
        )
    assert [job.study for job in jobs.all()] == ["demo", "birds", "demo"]


def test_waiting_outlasts_a_server_that_is_away(server: Server, jobs: Jobs, tmp_path: Path) -> None:
    job_id, _ = submit(jobs, tmp_path, request())
    states: list[str] = []
    server.away = 3
    server.end(job_id, "FAILED", exit_code=2)
    assert jobs.wait(job_id, lambda job: states.append(job.state)).exit_code == 2
    assert states == ["failed"]


def test_waiting_for_a_server_that_stays_away_ends(
    server: Server, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = submit(jobs, tmp_path, request())
    monkeypatch.setattr(jobs_module, "PATIENCE", 0.0)
    server.away = 10**6
    with pytest.raises(Unreachable, match="no Ray dashboard answers"):
        jobs.wait(job_id)


def test_a_followed_log_is_written_once_although_the_connection_breaks(jobs: Jobs, tmp_path: Path) -> None:
    job_id, _ = submit(jobs, tmp_path, request())
    written: list[str] = []
    assert jobs.follow(job_id, written.append).state == "succeeded"
    assert "".join(written) == "first\nsecond\n"


def test_a_job_that_does_not_stop_is_an_error(
    server: Server, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = submit(jobs, tmp_path, request())
    monkeypatch.setattr(server, "stop_job", lambda job_id: True)
    with pytest.raises(ClusterError, match="still pending"):
        jobs.stop(job_id, patience=0.01)


def test_what_ray_refuses_is_said_without_its_traceback(jobs: Jobs) -> None:
    with pytest.raises(ClusterError, match="Job nobody does not exist"):
        jobs.get("nobody")


def test_the_client_has_what_is_used_of_it() -> None:
    from ray.dashboard.modules.job.job_supervisor import JobSupervisor
    from ray.job_submission import JobDetails, JobSubmissionClient

    assert {name for name in vars(jobs_module.Client) if name[0] != "_"} <= set(vars(JobSubmissionClient))
    used = {"submission_id", "metadata", "entrypoint", "status", "driver_exit_code", "start_time", "end_time"}
    assert used <= set(JobDetails.model_fields)
    assert "SIGTERM" in JobSupervisor.VALID_STOP_SIGNALS
