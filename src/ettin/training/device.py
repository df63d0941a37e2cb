"""Where a run computes: the device, its number format, its speed and its memory."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from ettin.console import log
from ettin.errors import InputError

_MATMUL_SIZE = 1024
_MATMUL_SECONDS = 0.25


def choose_device(wanted: str) -> torch.device:
    """The device to use: what was asked for, or the best there is (`cuda`, then `mps`, then `cpu`).

    Raises:
        InputError: the device asked for is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, usable in there.items() if usable)
    if not there[wanted]:
        usable = ", ".join(name for name, is_there in there.items() if is_there)
        raise InputError(f"device: {wanted} is not available here; usable: {usable}")
    return torch.device(wanted)


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The type of matrix products: bfloat16 where the hardware has it natively, else float32.

    Weights, moments, norms and losses are fp32 in either case.
    """
    if wanted == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        wanted = "bfloat16" if native else "float32"
        log.info("precision: %s on %s", wanted, device)
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """The context in which a forward pass computes."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, precision)


def measure_matmul_rate(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of 1,024³ matrix products in `precision`, the best of about a quarter of a second.

    The practical roof that a run's own rate is compared with.
    """
    left = torch.ones(_MATMUL_SIZE, _MATMUL_SIZE, device=device, dtype=precision)
    best = 0.0
    started = time.perf_counter()
    while time.perf_counter() - started < _MATMUL_SECONDS:
        begun = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for the device
        best = max(best, 2 * _MATMUL_SIZE**3 / (time.perf_counter() - begun))
    return best


@contextmanager
def traced(path: Path, *, wanted: bool) -> Iterator[Callable[[], None]]:
    """Trace what three steps compute, after three to warm up.

    Args:
        path: the trace, as Chrome and Perfetto read it.
        wanted: nothing is traced otherwise.

    Yields:
        To be called after every step.
    """
    if not wanted:
        yield lambda: None
        return
    from torch import profiler

    def keep(trace: profiler.profile) -> None:
        trace.export_chrome_trace(str(path))
        log.info("three steps are traced in %s", path)

    schedule = profiler.schedule(wait=1, warmup=2, active=3, repeat=1)
    with profiler.profile(schedule=schedule, on_trace_ready=keep) as trace:
        yield trace.step


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held so far: the device's on CUDA, the whole process's elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
