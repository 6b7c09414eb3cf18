"""A whole training step as one CUDA graph: launched once, not kernel by kernel.

On a data-centre card a step of a small model is hundreds of kernels of a few microseconds each, and
launching them takes longer than running them. A captured step is one launch. It needs fixed shapes,
an optimizer that keeps its state and its learning rate on the device (Adam with `capturable`), and
nothing in the step that waits for the host.

https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.training.batches import Batch

WARM_UP_STEPS = 3
"""Steps that run kernel by kernel first: libraries choose their kernels and allocate their workspaces."""

Step = Callable[[Batch], tuple[Tensor, Tensor]]
"""Forward, backward and update on one batch; returns output and loss, detached."""


class CapturedStep:
    """Runs `step` as it is, captures it once it is warm, and from then on replays it.

    Every call trains on its batch, the first ones too. Batches of another shape than the captured
    one, such as the last of an epoch, run kernel by kernel.
    """

    def __init__(self, step: Step, optimizer: torch.optim.Optimizer) -> None:
        check_capturable(optimizer)
        self._step = step
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._shapes: list[torch.Size] | None = None
        self._warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Batch | None = None
        self._outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return output and loss of this step: copies, which the next step does not overwrite."""
        shapes = [tensor.shape for tensor in _tensors(batch)]
        if self._shapes is None:
            self._shapes = shapes
        if shapes != self._shapes or self._warm < WARM_UP_STEPS:
            self._warm += shapes == self._shapes
            return self._on_side_stream(batch)
        if self._graph is None:
            self._capture(batch)
        assert self._graph is not None and self._inputs is not None and self._outputs is not None
        for static, fresh in zip(_tensors(self._inputs), _tensors(batch), strict=True):
            static.copy_(fresh)
        self._graph.replay()
        output, loss = self._outputs
        return output.clone(), loss.clone()

    def _on_side_stream(self, batch: Batch) -> tuple[Tensor, Tensor]:
        # What is to be captured must have run on another stream than the default one.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forget_gradients()
            result = self._step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _capture(self, batch: Batch) -> None:
        """Record the step on static inputs. Recording runs nothing: the replay that follows trains."""
        self._inputs = batch._replace(
            args=tuple(a.clone() if isinstance(a, Tensor) else a for a in batch.args),
            target=batch.target.clone(),
            weight=None if batch.weight is None else batch.weight.clone(),
        )
        # Without gradients at its start the graph writes them again at every replay.
        self._forget_gradients()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._step(self._inputs)

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def check_capturable(optimizer: torch.optim.Optimizer) -> None:
    """Raise ConfigError for an optimizer that waits for the host or keeps its rate there."""
    for group in optimizer.param_groups:
        if not group.get("capturable") or not isinstance(group["lr"], Tensor):
            raise ConfigError(
                "a step can be captured only with adam or adamw built with capturable=True and the "
                "learning rate as a tensor on the device; see build_optimizer(..., capturable=True)"
            )


def _tensors(batch: Batch) -> list[Tensor]:
    tensors = [argument for argument in batch.args if isinstance(argument, Tensor)]
    return [*tensors, batch.target, *([] if batch.weight is None else [batch.weight])]
