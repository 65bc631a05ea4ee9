"""Recognise that memory ran out, whoever says so: torch's allocators, CUDA and its libraries, the host.

Imports nothing heavy, so that those who only judge failures need no torch.
"""

from __future__ import annotations

import errno

SIGNS = (
    "can't allocate memory",  # torch's allocator on the CPU
    "out of memory",  # `CUDA error: out of memory` of calls outside torch's allocator, and HIP's
    "CUBLAS_STATUS_ALLOC_FAILED",  # torch creates handles and workspaces of cuBLAS when they are first needed
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "bad_alloc",  # C++ behind a binding
)
"""What a ``RuntimeError`` says for want of memory. None of these errors harms the process or its device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device or the host said that it has no memory left: work can go on with less."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
