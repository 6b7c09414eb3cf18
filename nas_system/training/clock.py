"""Time spent in a training: data, forward, backward, optimizer, evaluation.

`optimizer` holds the update and the bookkeeping of a step, hooks included; `data` is the waiting for
the loader and the way to the device.

Laps are read from the host's clock and nothing waits for the device. On a CPU that is the time
of the work itself. On CUDA kernels run later than they are launched: a lap is the time to launch
them, and the waiting shows in the lap that reads something back (the check every hundred steps,
the end of an epoch). The sum, and so `steps_per_sec`, is right on both.
"""

from __future__ import annotations

from time import perf_counter, process_time

import torch

PARTS = ("data", "forward", "backward", "optimizer", "evaluation")


def compute_seconds(device: torch.device, threads: int = 1) -> float:
    """Return the seconds that this process has computed; only a difference of two readings means anything.

    On a CPU that is the time in which it had a core, divided by its threads: other programs make it wait,
    which does not count. On CUDA it is the time of day once every kernel has ended, so waiting counts.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return perf_counter()
    return process_time() / threads


class Clock:
    """Adds every moment since `start` to exactly one part."""

    __slots__ = ("_last", "seconds", "steps")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self.steps = 0
        self._last = 0.0

    def start(self) -> None:
        self._last = perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last call to `part`."""
        now = perf_counter()
        self.seconds[part] += now - self._last
        self._last = now

    def to_json(self) -> dict[str, float]:
        """Return `data_sec`, `forward_sec`, ..., and `steps_per_sec` over the training passes alone."""
        training = sum(self.seconds[part] for part in PARTS if part != "evaluation")
        seconds_by_part = {f"{part}_sec": round(seconds, 4) for part, seconds in self.seconds.items()}
        return seconds_by_part | {"steps_per_sec": round(self.steps / training, 2) if training else 0.0}
