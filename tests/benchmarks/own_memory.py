"""Seconds and peak memory of one piece of work inside this process, above what it held before."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def measured(work: Callable[[], Any], device: str) -> tuple[Any, dict[str, float]]:
    """Run `work` and return its result, its seconds, and its peak MiB of main memory and of the GPU.

    The kernel keeps the peak of the resident set; it is set back first, and what the allocator holds free is given
    back, so that memory used before does not hide what is used now. Linux only. Nothing looks on while `work` runs.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, allocated = resident("VmRSS"), 0
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
    began = time.perf_counter()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    found = {"seconds": time.perf_counter() - began, "mib": resident("VmHWM") - before}
    if device == "cuda":
        found["gpu_mib"] = (torch.cuda.max_memory_allocated() - allocated) / 2**20
    return result, found


def resident(key: str) -> float:
    """MiB of `VmRSS`, now, or of `VmHWM`, at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
