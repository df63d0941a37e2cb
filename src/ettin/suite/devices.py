"""Which GPUs the jobs of one machine get, when several run at a time: one each, in turn.

A job sees a device by `CUDA_VISIBLE_DEVICES`, so that nothing inside it needs to know. With one job
at a time, or one device, nothing is changed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Devices:
    """Hands out the devices of this machine.

    Args:
        names: as `CUDA_VISIBLE_DEVICES` has them; those of this machine unless given.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._names = list(_names() if names is None else names)
        self._held: dict[str, str] = {}

    def take(self, job: str) -> dict[str, str]:
        """Environment variables for a job: the device that the fewest others have."""
        if len(self._names) < 2:
            return {}
        held = list(self._held.values())
        self._held[job] = min(self._names, key=held.count)
        return {VISIBLE: self._held[job]}

    def give_back(self, job: str) -> None:
        """The job has ended."""
        self._held.pop(job, None)


def _names() -> list[str]:
    """The devices that this process may use, without loading a library that would occupy them."""
    stated = os.environ.get(VISIBLE)
    if stated is not None:
        return [name for name in stated.split(",") if name]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]
