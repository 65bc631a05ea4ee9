"""The C library's allocator, told to keep what is freed: a training step asks for the same sizes again."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@cache
def keep_freed_memory() -> bool:
    """Reuse large blocks of this process instead of returning them to the system; True where that worked.

    glibc maps every large tensor anew and the system clears its pages: on the CPU of a virtual machine a new
    38 MB activation cost 18 ms, the SiLU that fills it 4 (``benchmarks/step_speed``). The process keeps the
    memory of its largest step until it ends. Nothing happens with another C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
    return all(mallopt(option, value) for option, value in settings.items())
