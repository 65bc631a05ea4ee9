"""What a death says, out of Ray's long account of it."""

from __future__ import annotations

import pytest

from orchestrator.work.failures import (
    LONGEST,
    death_in_words,
    failure_of,
    is_device_failure,
    was_killed_for_memory,
)

KILLED = (
    "A worker health check failed.\n"
    "Worker info: Worker(actor=Actor(RayTrainWorker, ab12))\n"
    "The actor died unexpectedly before finishing this task.\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
    "Some common causes include: "
    "(1) The process is killed by SIGKILL by OOM killer due to high memory usage."
)

MEMORY = """A worker health check failed.
Task was killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.1) was 60.0GB / 63.0GB (0.952), which exceeds the memory usage threshold."""


def test_a_killed_worker_is_told_from_one_that_memory_cost() -> None:
    assert (was_killed_for_memory(KILLED), was_killed_for_memory(MEMORY)) == (False, True)


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (KILLED, "Worker unexpectedly exits with a connection error code 2. End of file"),
        (MEMORY, "Task was killed due to the node running low on memory"),
        ("its worker was silent for 60 s", "its worker was silent for 60 s"),
        ("", ""),
    ],
)
def test_a_death_in_words(death: str, words: str) -> None:
    assert death_in_words(death) == words


@pytest.mark.parametrize(
    ("said", "device", "kind"),
    [
        ("CUDA error: uncorrectable ECC error encountered", True, "raised"),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", True, "raised"),
        ("CUDA error: out of memory", False, "memory"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", False, "memory"),
        ("mat1 and mat2 shapes cannot be multiplied", False, "raised"),
    ],
)
def test_errors_that_a_process_does_not_survive_are_told_from_those_of_a_cell(
    said: str, device: bool, kind: str
) -> None:
    error = RuntimeError(said)
    assert (is_device_failure(error), failure_of(error)) == (device, kind)


def test_words_are_few() -> None:
    assert len(death_in_words("x" * 1000)) == LONGEST
