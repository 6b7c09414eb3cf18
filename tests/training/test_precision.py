"""Half precision: where it works, what stays in full, and what a scaler remembers."""

import pytest
import torch
from torch import nn

from nas_system.errors import ConfigError
from nas_system.training.acceleration.precision import Precision, best_half_precision
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.objectives import Forecasting

CPU = torch.device("cpu")


class Spy(nn.Module):
    """A linear layer that notes what its product came out as."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 1)
        self.seen = set()

    def forward(self, x):
        output = self.layer(x)
        self.seen.add((self.training, output.dtype))
        return output


class FullPrecisionOnly(Forecasting):
    """An objective that accepts nothing but fp32."""

    def loss(self, output, target, weight):
        assert output.dtype == torch.float32
        loss = super().loss(output, target, weight)
        assert loss.dtype == torch.float32
        return loss

    def report(self, output, target, weight):
        assert output.dtype == torch.float32
        return super().report(output, target, weight)


def trained(precision, device=CPU, epochs=20):
    torch.manual_seed(0)
    model = Spy().to(device)
    x = torch.randn(64, 8, device=device)
    batches = [(x[i : i + 16], x[i : i + 16].sum(1, keepdim=True)) for i in range(0, 64, 16)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    engine = Engine(
        model,
        optimizer,
        FullPrecisionOnly(),
        device,
        EarlyStoppingState(),
        precision=precision,
        grad_clip=10.0,
    )
    engine.fit(batches, batches, epochs)
    return engine, batches


def test_bf16_is_used_in_training_and_evaluation_with_losses_in_full():
    engine, batches = trained("bf16")
    assert engine.model.seen == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert engine.model.layer.weight.dtype == torch.float32
    assert engine.predict(batches).dtype == torch.float32
    assert engine.history[-1].val["mse"] < 0.1 * engine.history[0].val["mse"]


def test_fp32_casts_nothing():
    engine, _ = trained("fp32")
    assert engine.model.seen == {(True, torch.float32), (False, torch.float32)}


def test_double_precision_stays_double():
    assert Precision("fp32", CPU).full(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_fp16_on_a_cpu_says_what_to_take_instead():
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device, not cpu; use bf16 or fp32"):
        Precision("fp16", CPU)


def test_an_unknown_precision_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="fp32, bf16, fp16"):
        Precision("float16", CPU)


def test_mixed_on_a_cpu_is_bf16():
    assert best_half_precision(CPU) == "bf16"


@pytest.mark.gpu
def test_fp16_trains_on_cuda_and_its_scale_survives_a_resume():
    engine, _ = trained("fp16", torch.device("cuda", 0))
    assert engine.model.seen == {(True, torch.float16), (False, torch.float16)}
    assert engine.history[-1].val["mse"] < 0.1 * engine.history[0].val["mse"]
    state = engine.state_dict()
    assert state["scaler"]["scale"] > 0
    other, _ = trained("fp16", torch.device("cuda", 0), epochs=1)
    other.load_state_dict(state)
    assert other.amp.state_dict() == state["scaler"]
