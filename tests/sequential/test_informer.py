"""Our Informer against recorded outputs of the published one, and what we put around it."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.informer import Informer, InformerCore, core_from_config, load_reference_state
from nas_system.space import SeriesShape
from nas_system.space.families import InformerConfig

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.npz"))
SIZES: dict[str, Any] = {"enc_in": 7, "dec_in": 7, "seq_len": 96, "label_len": 48, "pred_len": 24}
SHAPE = SeriesShape(seq_len=24, pred_len=6, n_inputs=3, target_columns=(2,))
SMALL = InformerConfig(d_model=16, n_heads=2, d_ff=16, label_len=8, dropout=0.0)

recorded = pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])


def recorded_core(path: Path) -> tuple[InformerCore, dict[str, Tensor], dict[str, Any]]:
    """Our core at the recorded sizes, the recorded weights, and everything else in the file."""
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    config = json.loads(str(case["config_json"]))
    assert config.pop("eval_mode")
    prefix = "state_dict/"
    state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in case.items() if k.startswith(prefix)}
    return InformerCore(**config).eval(), state, case


def replay(core: InformerCore, case: dict[str, Any]) -> float:
    """The largest difference from the recorded output."""
    inputs = [torch.from_numpy(case[name]) for name in ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")]
    n_samples = sum(name.startswith("index_sample/") for name in case)
    samples = [torch.from_numpy(case[f"index_sample/{i}"]) for i in range(n_samples)]
    with torch.no_grad():
        out = core(*inputs, key_samples=samples or None)
    return float(np.abs(out.numpy() - case["output"]).max())


def random_windows(shape: SeriesShape = SHAPE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(4, shape.seq_len, shape.n_inputs, generator=generator),
        torch.rand(4, shape.seq_len, 4, generator=generator) - 0.5,
        torch.rand(4, shape.pred_len, 4, generator=generator) - 0.5,
    )


# --- the published model ---------------------------------------------------------------------


def test_both_kinds_of_attention_were_recorded() -> None:
    assert {path.stem for path in RECORDED} == {"informer_full_fixed", "informer_prob_timeF"}


@recorded
def test_outputs_equal_the_published_implementations(path: Path) -> None:
    core, state, case = recorded_core(path)
    core.load_state_dict(state)
    assert replay(core, case) < 1e-5


@recorded
def test_checkpoints_load_with_position_tables_and_from_data_parallel(path: Path) -> None:
    core, state, case = recorded_core(path)
    width = state["encoder.norm.weight"].numel()
    for side in ("enc", "dec"):
        state[f"{side}_embedding.position_embedding.pe"] = torch.zeros(1, 5000, width)
    load_reference_state(core, {f"module.{name}": value for name, value in state.items()})
    assert replay(core, case) < 1e-5
    strict, _, _ = recorded_core(path)
    strict.load_state_dict(state)
    assert replay(strict, case) < 1e-5


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    core, state, _ = recorded_core(RECORDED[0])
    before = {name: value.clone() for name, value in core.state_dict().items()}
    state["projection.weight"] = torch.zeros(7, 16)
    state["encoder.attn_layers.9.norm1.bias"] = state.pop("encoder.norm.bias")
    with pytest.raises(ConfigError) as refused:
        load_reference_state(core, state)
    for part in (
        "projection.weight has shape (7, 16), this model needs (1, 16)",
        "encoder.norm.bias is missing",
        "encoder.attn_layers.9.norm1.bias is not a parameter",
    ):
        assert part in str(refused.value)
    assert all(torch.equal(before[name], value) for name, value in core.state_dict().items())


def test_the_number_of_key_samples_is_checked() -> None:
    core, _, case = recorded_core(next(path for path in RECORDED if "prob" in path.stem))
    with pytest.raises(ValueError, match="2 key samples for 5 self-attentions"):
        core(*(torch.from_numpy(case[n]) for n in ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")), [0, 1])


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"c_out": 7}, 11_330_055),
        ({"c_out": 1, "d_model": 256, "n_heads": 4, "d_ff": 1024, "e_layers": 3, "d_layers": 2}, 4_886_017),
    ],
    ids=["default sizes", "width 256"],
)
def test_parameter_counts_are_the_published_models(arguments: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        core = InformerCore(**SIZES, **arguments)
    assert sum(parameter.numel() for parameter in core.parameters()) == count


@pytest.mark.parametrize(
    ("freq", "embed", "n_marks"),
    [
        *[("h", "timeF", 4), ("t", "timeF", 5), ("s", "timeF", 6), ("m", "timeF", 1), ("a", "timeF", 1)],
        *[("w", "timeF", 2), ("d", "timeF", 3), ("b", "timeF", 3), ("h", "fixed", 4), ("t", "learned", 5)],
    ],
)
def test_every_frequency_reads_its_own_number_of_marks(freq: str, embed: Any, n_marks: int) -> None:
    core = InformerCore(**SIZES, c_out=1, d_model=8, n_heads=2, d_ff=8, embed=embed, freq=freq).eval()
    x_enc, x_dec = torch.randn(2, 96, 7), torch.randn(2, 72, 7)
    marks = [torch.randint(1, 4, (2, length, n_marks)).float() for length in (96, 72)]
    first = core(x_enc, marks[0], x_dec, marks[1])
    assert first.shape == (2, 24, 1)
    for column in range(n_marks):
        changed = marks[1].clone()
        changed[..., column] = 0
        assert not torch.equal(core(x_enc, marks[0], x_dec, changed), first)


# --- around it -------------------------------------------------------------------------------


class RecordingCore(nn.Module):
    """Stands where the encoder-decoder stands, keeps what it was given and forecasts ones."""

    def forward(self, *inputs: Tensor) -> Tensor:
        self.inputs = inputs
        return torch.ones(inputs[0].shape[0], SHAPE.pred_len, 1)


@pytest.mark.parametrize("label_len", [0, 8, 24])
def test_the_decoder_sees_known_steps_then_zeros_and_the_marks_of_both(label_len: int) -> None:
    core = RecordingCore()
    config = SMALL.model_copy(update={"label_len": label_len, "normalization": "none"})
    x, x_mark, y_mark = random_windows()
    Informer(config, SHAPE, core=core)(x, x_mark, y_mark)
    x_enc, mark_enc, x_dec, mark_dec = core.inputs
    assert torch.equal(x_enc, x)
    assert torch.equal(mark_enc, x_mark)
    assert torch.equal(x_dec[:, :label_len], x[:, 24 - label_len :])
    assert x_dec.shape == (4, label_len + 6, 3)
    assert x_dec[:, label_len:].abs().sum() == 0
    assert torch.equal(mark_dec, torch.cat([x_mark[:, 24 - label_len :], y_mark], dim=1))


@pytest.mark.parametrize("linear_path", [False, True])
@pytest.mark.parametrize("normalization", ["none", "last", "mean", "revin"])
def test_forecast_is_scaled_back_by_the_targets_own_statistics(normalization: Any, linear_path: bool) -> None:
    """With a core that says 1 everywhere the whole rest is a closed form."""
    config = SMALL.model_copy(update={"normalization": normalization, "linear_path": linear_path})
    x, x_mark, y_mark = random_windows()
    out = Informer(config, SHAPE, core=RecordingCore())(x, x_mark, y_mark).detach().numpy()
    target = x.numpy()[:, :, 2:]
    center = {"none": 0.0, "last": target[:, -1:]}.get(normalization, target.mean(1, keepdims=True))
    scale = np.sqrt(target.var(1, keepdims=True) + 1e-5) if normalization == "revin" else 1.0
    straight = ((target - center) / scale).mean(1, keepdims=True) if linear_path else 0.0
    np.testing.assert_allclose(out, np.broadcast_to((1 + straight) * scale + center, out.shape), atol=1e-5)


def test_label_len_longer_than_the_look_back_is_refused() -> None:
    with pytest.raises(ConfigError, match="label_len=25"):
        Informer(SMALL.model_copy(update={"label_len": 25}), SHAPE)


def test_last_layer_of_the_decoder_goes_on_with_the_forecast_steps_alone() -> None:
    """The short cut gives what all steps would give."""
    torch.manual_seed(0)
    core = core_from_config(SMALL.model_copy(update={"d_layers": 2}), SHAPE).eval()
    steps, memory = torch.randn(2, 14, 16), torch.randn(2, 12, 16)
    short = core.decoder(steps, memory, iter([None, None]), 6)
    whole = core.decoder(steps, memory, iter([None, None]), 14)
    torch.testing.assert_close(short, whole[:, -6:])


# --- the command -----------------------------------------------------------------------------


def parity_command() -> ModuleType:
    spec = spec_from_file_location("informer_parity", ROOT / "benchmarks" / "informer_parity.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parity_command_finds_the_recorded_cases_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity_command().main([str(path) for path in RECORDED]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal"] is True


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_parity_command_fails_on_another_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: float
) -> None:
    _, _, case = recorded_core(RECORDED[0])
    case["output"][0, 0, 0] += wrong
    np.savez(tmp_path / "off.npz", **case)
    assert parity_command().main([str(RECORDED[1]), str(tmp_path / "off.npz")]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal"] is False


def test_parity_command_names_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, case = recorded_core(RECORDED[0])
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "torn.npz").write_bytes(RECORDED[0].read_bytes()[:5000])
    np.savez(tmp_path / "empty.npz", x_enc=np.zeros(3))
    other: dict[str, Any] = case | {"config_json": '{"depth": 3}'}
    np.savez(tmp_path / "config.npz", **other)
    np.savez(tmp_path / "short.npz", **case | {"x_dec": case["x_dec"][:, :-1]})
    fewer: dict[str, Any] = {k: v for k, v in case.items() if "encoder.norm" not in k}
    np.savez(tmp_path / "weights.npz", **fewer)
    said = {"text": "not an .npz", "torn": "damaged", "empty": "lacks config_json", "config": "depth"}
    said |= {"short": "do not fit", "weights": "encoder.norm.weight is missing", "none": "No such file"}
    for name, words in said.items():
        assert parity_command().main([str(tmp_path / f"{name}.npz")]) == 2, name
        printed = capsys.readouterr().err
        assert f"{name}.npz" in printed and words in printed
