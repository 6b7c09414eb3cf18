"""A look at the first batch: what it refuses and why, what it costs, and that it leaves no trace."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from python_server import ROOT, run_python
from torch import nn

from nas_system.errors import PreflightFailed
from nas_system.training.batches import unpack
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.loops import DryRunStep
from nas_system.training.objectives import Forecasting
from nas_system.training.preflight.memory import MIB, LiveBytes, available_mb
from nas_system.training.preflight.preflight import Preflight, Workload

SAMPLES, STEPS_BACK, STEPS_AHEAD = 300, 6, 2


class Forecaster(nn.Module):
    """(B, 6, 1) -> (B, 2, 1), with everything that has a state: dropout and running statistics."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(STEPS_BACK, width),
            nn.BatchNorm1d(width),
            nn.Dropout(0.5),
            nn.Linear(width, STEPS_AHEAD),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x[..., 0])[..., None]


class Data:
    """Windows of noise; remembers which batches were asked for."""

    def __init__(self, samples: int = SAMPLES) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(samples, STEPS_BACK, 1, generator=generator)
        self.y = self.x[:, :STEPS_AHEAD]
        self.asked: list[int] = []

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(size)
        return self.x[:size].clone(), self.y[:size].clone()

    def batches(self, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(zip(self.x.split(size), self.y.split(size), strict=True))


def engine_of(model: nn.Module, *, optimizer: str = "adam", lr: float = 0.01) -> Engine:
    kind = {
        "adam": lambda p: torch.optim.Adam(p, lr=lr),
        "sgd": lambda p: torch.optim.SGD(p, lr=lr),
        "momentum": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9),
    }[optimizer]
    return Engine(model, kind(model.parameters()), Forecasting(), torch.device("cpu"), EarlyStoppingState())


def workload(data: Data, batch_size: int = 64, evaluation_batch: int = 512, n_val: int = 100) -> Workload:
    return Workload(data.batch, batch_size, len(data.x), n_val, 100, evaluation_batch)


def refusal(model: nn.Module, *, batch_size: int = 64, samples: int = SAMPLES, **options) -> PreflightFailed:
    """How the model is refused; a model that is not refused fails the test."""

    def look() -> None:
        preflight = Preflight(engine_of(model), workload(Data(samples), batch_size), **options)
        preflight.check_batch()
        preflight.check_time()

    with pytest.raises(PreflightFailed) as caught:
        look()
    return caught.value


# -- no trace ----------------------------------------------------------------------------------------


def test_the_training_that_follows_gives_the_same_numbers_bit_for_bit() -> None:
    def trained(look_first: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        data = Data()
        engine = engine_of(Forecaster())
        if look_first:
            preflight = Preflight(engine, workload(data), limit_s=1e6)
            preflight.check_batch()
            preflight.check_time()
            preflight.estimate()
        engine.fit(data.batches(64), None, 2)
        return list(engine.model.state_dict().values())

    for looked, untouched in zip(trained(True), trained(False), strict=True):
        assert torch.equal(looked, untouched)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_trial_moves_its_own_weights_and_no_others(optimizer: str) -> None:
    engine = engine_of(Forecaster(), optimizer=optimizer)
    trial = DryRunStep(engine.model, engine.objective, engine.optimizer, engine.amp)
    batch = unpack(Data().batch(8), engine.device)
    trial.add_gradient(trial.forward(batch), batch)
    trial.update()
    assert not torch.equal(trial.model.layers[0].weight, engine.model.layers[0].weight)
    assert all(parameter.grad is None for parameter in engine.model.parameters())
    assert not engine.optimizer.state


def test_it_does_not_load_the_compiler(project_root: Path) -> None:
    # That would cost more than everything else here together.
    code = (
        f"import sys; sys.path[:0] = {[str(project_root), *map(str, Path(__file__).parents[:2])]!r}\n"
        "from nas_system.training.acceleration.eager import skip_compiler_import; skip_compiler_import()\n"
        "import test_preflight as here\n"
        "flight = here.Preflight(here.engine_of(here.Forecaster()), here.workload(here.Data()))\n"
        "flight.check_batch(); flight.check_time(); print('torch._dynamo' in sys.modules)\n"
    )
    done = run_python(["-c", code])
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


# -- what the model does wrong -----------------------------------------------------------------------


class Changed(Forecaster):
    """A forecaster whose output is changed."""

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change(super().forward(x))


class BackwardRaises(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        raise ValueError("no way back\nsecond line")


class BackwardGivesNaN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] * math.nan


def raise_error(error: BaseException):
    def change(output):
        raise error

    return change


FAULTS = {
    "a forward pass that raises": (
        raise_error(KeyError("lost")),
        "preflight:forward",
        r"KeyError: 'lost' \(on a batch of 2\)",
    ),
    "shapes that do not fit": (
        lambda output: output @ torch.ones(3, 3),
        "preflight:forward",
        r"RuntimeError: .*shape",
    ),
    "a backward pass that raises": (
        BackwardRaises.apply,
        "preflight:backward",
        r"ValueError: no way back \(on a batch of 2\)$",
    ),
    "memory that runs out on the host": (
        raise_error(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")),
        "preflight:memory",
        r"forward pass on 2 samples ran out of memory; lower data\.batch_size",
    ),
    "memory that runs out on the card": (
        raise_error(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")),
        "preflight:memory",
        r"ran out of memory.*CUDA",
    ),
    "a missing column of the output": (
        lambda output: output[:, :1],
        "preflight:shape",
        r"output is \(2, 1, 1\), expected \(2, 2, 1\)",
    ),
    "an output that would broadcast": (
        lambda output: output[..., 0],
        "preflight:shape",
        r"output is \(2, 2\), expected \(2, 2, 1\)",
    ),
    "an output that is no tensor": (lambda output: (output, None), "preflight:shape", r"output is tuple"),
    "an output that is NaN": (
        lambda output: output * torch.tensor([[1.0], [math.nan]]),
        "preflight:nonfinite",
        r"2 of 4 outputs are not finite",
    ),
    "a loss that overflows": (lambda output: output + 1e30, "preflight:nonfinite", r"the loss is inf"),
    "a gradient that is NaN": (
        BackwardGivesNaN.apply,
        "preflight:nonfinite",
        r"gradient of layers\.0\.weight is not finite",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_model_is_named_by_its_kind(name: str) -> None:
    change, kind, message = FAULTS[name]
    failure = refusal(Changed(change))
    assert failure.kind == kind
    assert failure.exit_code == 2
    with pytest.raises(PreflightFailed, match=message):
        raise failure


def test_what_only_the_last_batch_of_an_epoch_would_show_is_seen() -> None:
    # 257 = 4 x 64 + 1, and one window has no batch statistics.
    failure = refusal(Forecaster(), samples=257)
    assert failure.kind == "preflight:forward"
    assert "on a batch of 1" in str(failure)
    Preflight(engine_of(Forecaster()), workload(Data(258))).check_batch()


def test_an_error_that_is_no_verdict_on_the_model_passes_through() -> None:
    with pytest.raises(OSError, match="disk"):
        Preflight(engine_of(Changed(raise_error(OSError("disk")))), workload(Data())).check_batch()


# -- memory ------------------------------------------------------------------------------------------


def test_live_bytes_are_those_alive_at_once() -> None:
    there = torch.zeros(1000)
    with LiveBytes([there]) as count:
        a = there + 1
        b = a.view(10, 100).t() * 2
        del a
        c = b + 1
        del b, c
        there.add_(1)
    assert count.peak == 8000
    assert count.operators >= 5


def test_live_bytes_see_the_backward_pass() -> None:
    weight = torch.zeros(500, requires_grad=True)
    with LiveBytes([weight]) as count:
        (weight * 2).exp().sum().backward()
    # exp keeps its output of 2,000 bytes and meets its gradient; what the sum gives is a few bytes.
    assert 2 * 2000 <= count.peak < 3 * 2000 + 100


def test_batches_grow_to_the_real_one() -> None:
    data = Data()
    Preflight(engine_of(Forecaster()), workload(data, batch_size=100)).check_batch()
    assert list(dict.fromkeys(data.asked)) == [2, 8, 32, 100]
    small = Data(samples=5)
    Preflight(engine_of(Forecaster()), workload(small, batch_size=100)).check_batch()
    assert list(dict.fromkeys(small.asked)) == [2, 5]


class Wide(nn.Module):
    """Keeps 1 MiB of activations for every window, and has hardly a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x[:, :1].expand(-1, 2**18, 1) * self.scale
        return wide[:, :STEPS_AHEAD] + 0 * wide.square().mean(1, keepdim=True)


def test_a_batch_that_does_not_fit_is_refused_before_it_is_tried() -> None:
    data = Data()
    preflight = Preflight(engine_of(Wide()), workload(data, batch_size=256), free_mb=100)
    with pytest.raises(
        PreflightFailed, match=r"MiB needed \(parameters 0, activations .* at batch 256\)"
    ) as caught:
        preflight.check_batch()
    assert caught.value.kind == "preflight:memory"
    assert str(caught.value).endswith(
        "100 MiB there; lower data.batch_size, the width or, for a series, data.seq_len"
    )
    assert max(data.asked) == 8
    numbers = caught.value.numbers
    # Five tensors of 1 MiB a window at most live at once, and not fewer than two.
    assert 2 * 256 <= numbers["needed_mb"] <= 5 * 256
    assert (numbers["batch_size"], numbers["available_mb"], numbers["n_params"]) == (256, 100.0, 1)


def test_a_batch_that_just_fits_is_let_through() -> None:
    needed = refusal(Wide(), batch_size=64, free_mb=100).numbers["needed_mb"]
    Preflight(engine_of(Wide()), workload(Data(), batch_size=64), free_mb=needed + 1).check_batch()
    assert refusal(Wide(), batch_size=64, free_mb=needed - 1).kind == "preflight:memory"


@pytest.mark.parametrize(("optimizer", "copies"), [("adam", 4), ("momentum", 3), ("sgd", 2)])
def test_weights_gradients_and_the_state_of_the_optimizer_are_counted(optimizer: str, copies: int) -> None:
    model = nn.Linear(512, 1024, bias=False)  # 2 MiB
    data = Data()
    with pytest.raises(
        PreflightFailed, match=rf"{2 * copies} MiB needed \(parameters {2 * copies} alone\)"
    ) as caught:
        Preflight(engine_of(model, optimizer=optimizer), workload(data), free_mb=1)
    assert caught.value.numbers["parameters_mb"] == 2 * copies
    # What the weights hold already counts as there.
    assert caught.value.numbers["available_mb"] == 3
    assert data.asked == []


def test_an_evaluation_that_does_not_fit_gets_smaller_batches_and_is_no_reason_to_refuse() -> None:
    data = Data(samples=1000)
    work = Workload(data.batch, 8, 1000, 1000, 1000, evaluation_batch=512)
    roomy = Preflight(engine_of(Wide()), work, free_mb=10_000)
    roomy.check_batch()
    assert roomy.evaluation_batch == 512
    tight = Preflight(engine_of(Wide()), work, free_mb=150)
    tight.check_batch()
    assert 16 <= tight.evaluation_batch <= 64


def test_what_is_there_is_a_number_and_a_limit_on_the_process_lowers_it(project_root: Path) -> None:
    free = available_mb(torch.device("cpu"))
    assert 1 < free < 2**30
    code = (
        f"import json, resource, sys; sys.path.insert(0, {str(project_root)!r})\n"
        "import torch; from nas_system.training.preflight.memory import available_mb\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 300 * 2**20,) * 2)\n"
        "print(json.dumps(available_mb(torch.device('cpu'))))\n"
    )
    done = run_python(["-c", code])
    assert json.loads(done.stdout) == pytest.approx(min(300, free), rel=0.1)


@pytest.mark.parametrize(
    ("line", "files", "left_mb"),
    [
        ("0::/box", {"box/memory.max": 500 * MIB, "box/memory.current": 200 * MIB}, 300),
        ("0::/box", {"box/memory.max": "max", "box/memory.current": 200 * MIB}, math.inf),
        # The group around it is the narrower one, and has files in its cache.
        (
            "0::/a/b",
            {
                "a/b/memory.max": 900 * MIB,
                "a/b/memory.current": 0,
                "a/memory.max": 400 * MIB,
                "a/memory.current": 380 * MIB,
                "a/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
            },
            120,
        ),
        (
            "4:cpu,memory:/box",
            {
                "memory/box/memory.limit_in_bytes": 500 * MIB,
                "memory/box/memory.usage_in_bytes": 450 * MIB,
                "memory/box/memory.stat": f"inactive_file 7\ntotal_inactive_file {10 * MIB}\n",
            },
            60,
        ),
        # Inside a container the path is the host's; the top is the container's own.
        ("0::/not/here", {"memory.max": 300 * MIB, "memory.current": 100 * MIB}, 200),
        ("3:cpuset:/", {"memory.max": 300 * MIB, "memory.current": 100 * MIB}, math.inf),
    ],
)
def test_a_control_group_limits_what_is_there(line: str, files: dict, left_mb: float, tmp_path: Path) -> None:
    from nas_system.training.preflight.memory import groups_leave

    (tmp_path / "membership").write_text(line + "\n")
    for name, value in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(f"{value}\n")
    assert groups_leave(tmp_path / "membership", tmp_path / "root") == left_mb


# -- time --------------------------------------------------------------------------------------------


class Slow(Forecaster):
    """Takes `seconds[0]` for its first pass, `seconds[1]` for the next, and the last of them from then on."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        # Shared by all copies.
        self.shared = Shared(seconds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shared.passes += 1
        left = self.shared.seconds
        compute(left.pop(0) if len(left) > 1 else left[0])
        return super().forward(x)


class Shared:
    """A list of seconds, and a count of passes, that a copy of the model does not copy."""

    def __init__(self, seconds) -> None:
        self.seconds = list(seconds)
        self.passes = 0

    def __deepcopy__(self, memo):
        return self


def compute(seconds: float) -> None:
    """Keep a core busy for so long."""
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass


def test_a_training_whose_shortest_kind_costs_too_much_is_refused_at_once() -> None:
    # 5,000 forward passes of 0.02 s over validation; one of them is on eight samples.
    model, data = Slow(0.02), Data()
    work = workload(data, batch_size=2, evaluation_batch=8, n_val=40_000)
    preflight = Preflight(engine_of(model), work, limit_s=1.0)
    preflight.check_batch()
    with pytest.raises(PreflightFailed) as caught:
        preflight.check_time()
    failure = caught.value
    assert model.shared.passes < 10, "a few steps are enough to know"
    assert failure.kind == "preflight:time"
    assert re.match(
        r"one step and its evaluation cost about 1\d\d s of compute, a run may cost 1 s; ", str(failure)
    )
    assert str(failure).endswith("lower the width, the depth or, for a series, data.seq_len")
    assert failure.numbers["shortest_s"] >= 100
    assert failure.numbers["limit_s"] == 1.0


def test_the_pace_of_a_part_of_the_batch_is_enough_to_refuse() -> None:
    data, engine = Data(), engine_of(Slow(0.05))
    engine.accumulation_steps = 1000
    preflight = Preflight(engine, workload(data, batch_size=100), limit_s=0.05)
    with pytest.raises(PreflightFailed, match="cost at least"):
        preflight.check_batch()
    assert max(data.asked) == 2


def test_one_slow_pass_is_no_reason_to_refuse() -> None:
    # The first pass of a size, and the first of those that are timed.
    for seconds in ((0.5, 0.0), (0.0, 0.0, 0.0, 0.0, 0.5, 0.0)):
        engine = engine_of(Slow(*seconds))
        engine.accumulation_steps = 100
        preflight = Preflight(engine, workload(Data(), batch_size=8), limit_s=1.0)
        preflight.check_batch()
        preflight.check_time()


def test_waiting_for_a_core_is_no_cost() -> None:
    class Waiting(Forecaster):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            return super().forward(x)

    preflight = Preflight(engine_of(Waiting()), workload(Data()), limit_s=1.0)
    preflight.check_batch()
    preflight.check_time()
    pace = preflight.pace()
    assert pace is not None
    assert 0 < pace.step_s < 0.02


def test_a_step_that_a_compiler_will_change_is_not_timed() -> None:
    engine = engine_of(Slow(0.02))
    engine.compile = True
    preflight = Preflight(engine, workload(Data(), batch_size=2), limit_s=0.1)
    preflight.check_batch()
    preflight.check_time()
    estimate = preflight.estimate()
    assert (estimate.step_ms, estimate.epoch_s, preflight.pace()) == (None, None, None)


def test_the_estimate_is_what_an_epoch_takes() -> None:
    data = Data()
    engine = engine_of(Slow(0.01))
    preflight = Preflight(engine, Workload(data.batch, 30, 300, 60, 60, 512))
    preflight.check_batch()
    preflight.check_time()
    estimate = preflight.estimate()
    assert estimate.n_params == sum(parameter.numel() for parameter in engine.model.parameters())
    assert estimate.step_ms >= 10.0
    assert max(data.asked) <= len(data.x)
    # Ten steps, and 60 samples of validation in one forward pass.
    assert (10 * estimate.step_ms + 10) / 1000 <= estimate.epoch_s <= 12 * estimate.step_ms / 1000
    assert estimate.seconds > 0.03
    pace = preflight.pace()
    assert pace is not None
    assert pace.step_s == pytest.approx(estimate.step_ms / 1000, rel=0.01)
    assert 0.02 <= pace.epoch_s <= 0.04, "a forward pass of 10 ms, and the files"
    assert 0.01 <= pace.test_s < pace.epoch_s


def test_the_counted_memory_is_what_a_training_takes() -> None:
    # Bytes of tensors, which no other program changes; `resident` memory depends on the allocator's mood.
    needed = refusal(Wide(), batch_size=60, free_mb=50).numbers["needed_mb"]
    data, engine = Data(), engine_of(Wide())
    batches = data.batches(60)
    with LiveBytes([data.x, data.y, *engine.model.parameters()]) as live:
        engine.fit(batches, None, 1)
    assert live.peak / MIB > 120
    assert needed == pytest.approx(live.peak / MIB, rel=0.05)


def test_the_peak_of_a_process_is_not_that_of_the_program_that_started_it() -> None:
    asked = "from nas_system.training.reproducibility import *; print(peak_memory_mb(torch.device('cpu')))"
    held_mb = 700
    parent = (
        f"import subprocess, sys; held = b'x' * ({held_mb} << 20); "
        f"subprocess.run([sys.executable, '-c', {asked!r}], check=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", parent], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 50 < float(done.stdout) < held_mb
