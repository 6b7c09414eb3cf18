"""How many trainings run at once, and on which devices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from nas_system.errors import ConfigError
from nas_system.nas_agent.agent_state import AgentState, get_run_in_progress

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Slots:
    """Places for trainings. The leases are the runs in progress, so another agent finds them on disk."""

    total: int = 1
    devices: tuple[str, ...] = ()
    """CUDA devices as `CUDA_VISIBLE_DEVICES` names them, to be leased; empty where each run may use all."""
    gpus_per_run: float = 1.0
    """Share of a device that a training leases, and of its memory that it may take."""

    def is_free(self, state: AgentState, run_id: str) -> bool:
        """Return whether `run_id` may begin now: nothing does next to the first run, which the noise and the
        first acceptance hang on."""
        if not state.runs and state.in_progress:
            return False
        return len(state.in_progress) < self.total and (
            not self.devices or self.device_for(state) is not None
        )

    def device_for(self, state: AgentState, preferred: str | None = None) -> str | None:
        """Return the device with the most left for one more training, or the preferred one if it has enough;
        None if none has, or none is leased."""
        left = dict.fromkeys(self.devices, 1.0)
        for run in state.in_progress:
            if run.device in left:
                left[run.device] -= 1.0 if run.alone else self.gpus_per_run
        fits = [device for device in self.devices if left[device] >= self.gpus_per_run - _ROUNDING]
        return preferred if preferred in fits else max(fits, key=left.__getitem__, default=None)

    @property
    def shares_devices(self) -> bool:
        """Return whether several trainings may have one device."""
        return bool(self.devices) and self.gpus_per_run < 1

    def is_packed(self, state: AgentState, run_id: str) -> bool:
        """Return whether the run leases a share of a device, so that others may have its memory."""
        run = get_run_in_progress(state, run_id)
        return run is not None and run.device is not None and not run.alone and self.gpus_per_run < 1

    def must_wait(self, state: AgentState, run_id: str) -> bool:
        """Return whether the run needs all of its device and another has it, or needs all of it, too, and
        has begun before."""
        run = get_run_in_progress(state, run_id)
        if run is None or not run.alone:
            return False
        before = True
        for other in state.in_progress:
            if other.run_id == run_id:
                before = False
            elif other.device == run.device and (before or not other.alone):
                return True
        return False

    def parallel_repeats(self, state: AgentState, run_id: str) -> int:
        """Return how many repeats of the first run train side by side: as many as its device holds."""
        if not self.devices:
            return self.total
        return min(self.total, self._per_device) if self.is_packed(state, run_id) else 1

    @property
    def capacity(self) -> int:
        """How many trainings the devices hold."""
        return len(self.devices) * self._per_device

    @property
    def _per_device(self) -> int:
        return int(1 / self.gpus_per_run + _ROUNDING)


SEQUENTIAL = Slots()
"""One training after the other."""


class Machine(Protocol):
    """Where trainings run, as far as slots depend on it."""

    def cores(self) -> int: ...
    def cuda_devices(self, name: str) -> tuple[str, ...]: ...


def slots_for(parallel: int | str, gpus_per_run: float, device: str, machine: Machine) -> Slots:
    """Return the slots that `--parallel`, `--gpus-per-run` and `--device` ask for.

    Raises ConfigError for more trainings than the devices hold, and for a share of a GPU where there is none.
    """
    if parallel == 1 and gpus_per_run == 1.0:
        return SEQUENTIAL
    devices = () if device == "cpu" else machine.cuda_devices(device)
    if not devices:
        if gpus_per_run != 1.0:
            raise ConfigError("--gpus-per-run: trainings find no GPU here; leave it out")
        return Slots(machine.cores() if isinstance(parallel, str) else parallel)
    most = Slots(devices=devices, gpus_per_run=gpus_per_run).capacity
    total = most if isinstance(parallel, str) else parallel
    if total > most:
        raise ConfigError(
            f"--parallel {total}: {len(devices)} GPUs hold {most} trainings of {gpus_per_run:g} GPUs each; "
            f"lower it, or give each less with --gpus-per-run {_share_for(total, len(devices)):g}"
        )
    return Slots(total, devices, gpus_per_run)


def _share_for(trainings: int, devices: int) -> float:
    """Return the largest share of a device, in hundredths, of which the devices hold so many trainings."""
    return math.floor(100 / math.ceil(trainings / devices)) / 100
