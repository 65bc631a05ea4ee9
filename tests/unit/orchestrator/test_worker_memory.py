"""What a worker frees it keeps: Train calls the training function in a thread, whose allocator is another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orchestrator.slots.environment import worker_variables

STEPS = """
import ctypes, resource, threading
from mmap_model.host_memory import keep_freed_memory

MEGABYTES = (38, 20, 5, 60, 12, 38, 38, 90)

def step(libc):
    blocks = [(libc.malloc(size << 20), size << 20) for size in MEGABYTES]
    for block, size in blocks:
        ctypes.memset(block, 1, size)
    while blocks:
        libc.free(blocks.pop()[0])

def train():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    works = keep_freed_memory()
    for _ in range(5):
        step(libc)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(libc)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before if works else "another C library")

thread = threading.Thread(target=train)
thread.start()
thread.join()
"""


def test_a_step_in_a_thread_of_a_worker_gets_the_pages_of_the_step_before() -> None:
    found = subprocess.run(
        [sys.executable, "-c", STEPS],
        env={**os.environ, **worker_variables(1)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not found.isdecimal():
        pytest.skip(found)
    assert int(found) < 100, "pages cleared anew; all blocks have 77,000 of 4 KiB"
