"""How many trainings run at once, and on which devices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nas_system.nas_agent.agent_state import AgentState


@dataclass(frozen=True)
class Slots:
    """Places for trainings. The leases are the runs in progress, so another agent finds them on disk."""

    total: int = 1
    devices: tuple[str, ...] = ()
    """CUDA devices as `CUDA_VISIBLE_DEVICES` names them, to be leased; empty where each run may use all."""
    gpus_per_run: float = 1.0
    """Share of a device that a training leases; a share limits its memory on the device to the same."""

    def is_free(self, state: AgentState, run_id: str) -> bool:
        """Return whether `run_id` may begin now: nothing does next to the first run, which the noise and the
        first acceptance hang on."""
        if not state.runs and state.in_progress:
            return False
        return len(state.in_progress) < self.total and (
            not self.devices or self.device_for(state) is not None
        )

    def device_for(self, state: AgentState) -> str | None:
        """Return the device with the most left for one more training; None if none has, or none is leased."""
        leased = Counter(run.device for run in state.in_progress)
        left = {device: 1.0 - self.gpus_per_run * leased[device] for device in self.devices}
        fits = [device for device in self.devices if left[device] >= self.gpus_per_run - _ROUNDING]
        return max(fits, key=left.__getitem__, default=None)

    @property
    def parallel_repeats(self) -> int:
        """How many repeats of the first run train side by side: on its device, as many as fit there."""
        return min(self.total, int(1 / self.gpus_per_run + _ROUNDING)) if self.devices else self.total


_ROUNDING = 1e-6
