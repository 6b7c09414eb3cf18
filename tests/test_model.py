"""`build_model`: every way to name a configuration, and the door to the authors' own Informer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from python_server import run_python
from torch import nn

from nas_system.errors import ConfigError
from nas_system.model import build_model, etth1_shape
from nas_system.sequential.informer import Informer
from nas_system.sequential.linear import LinearForecaster
from nas_system.space import DataConfig, ForecastingTask, RunConfig, SeriesShape
from nas_system.space.families import InformerConfig, LinearConfig

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]

# As much of a checkout as is used: a class at models/model.py that takes the published arguments,
# and a sibling package under a common name.
CHECKOUT = {
    "models/__init__.py": "",
    "utils/__init__.py": "",
    "utils/masking.py": "SOURCE = 'checkout'\n",
    "models/model.py": """
import torch
from utils.masking import SOURCE

class Informer(torch.nn.Module):
    def __init__(self, enc_in, dec_in, c_out, seq_len, label_len, out_len, factor=5, d_model=512, n_heads=8,
                 e_layers=3, d_layers=2, d_ff=512, dropout=0.0, attn='prob', embed='fixed', freq='h',
                 activation='gelu', output_attention=False, distil=True, mix=True, device=None):
        super().__init__()
        self.source = SOURCE
        self.arguments = dict(locals())
        self.arguments.pop('self')
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x_enc, x_mark_enc, x_dec, x_mark_dec):
        steps = self.arguments['out_len']
        return self.scale * x_dec[:, -steps:, : self.arguments['c_out']]
""",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in CHECKOUT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def core_of(model: nn.Module) -> Any:
    """The encoder-decoder of an Informer; Any, because torch types attributes as Tensor or Module."""
    assert isinstance(model, Informer)
    return model.core


def test_a_run_config_gives_its_familys_model() -> None:
    assert isinstance(build_model(RunConfig()), Informer)
    assert isinstance(build_model(RunConfig(model=LinearConfig())), LinearForecaster)


def test_the_default_shape_is_etth1s() -> None:
    everything = etth1_shape(RunConfig())
    assert (everything.n_inputs, everything.target_columns, everything.n_marks) == (7, (6,), 4)
    alone = etth1_shape(RunConfig(model=LinearConfig(), data=DataConfig(features="S", seq_len=336)))
    assert alone == SeriesShape(seq_len=336, pred_len=24, n_inputs=1, target_columns=(0,), n_marks=0)
    two = etth1_shape(RunConfig(task=ForecastingTask(targets=("OT", "HULL"), pred_len=48)))
    assert (two.target_columns, two.pred_len) == ((6, 1), 48)


def test_columns_that_are_not_etth1s_need_a_shape() -> None:
    for task in (ForecastingTask(dataset="synthetic"), ForecastingTask(targets=("price",))):
        with pytest.raises(ConfigError, match="pass `shape`"):
            build_model(RunConfig(task=task))
    shape = SeriesShape(seq_len=96, pred_len=24, n_inputs=2, target_columns=(1,))
    model = build_model(RunConfig(task=ForecastingTask(dataset="synthetic")), shape)
    assert model(torch.zeros(1, 96, 2), torch.zeros(1, 96, 4), torch.zeros(1, 24, 4)).shape == (1, 24, 1)


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"d_model": 64}, "training": {"optimizer_class": torch.optim.Adam}, "seed": 1},
        {"model": {"family": "informer", "d_model": 64}, "data": {"batch_size": 16}},
        {"d_model": 64},
    ],
    ids=["a whole config.py", "model and data", "the model's part"],
)
def test_plain_mappings_are_read(config: dict[str, object]) -> None:
    assert core_of(build_model(config)).projection.in_features == 64


def test_an_imported_config_module_is_read() -> None:
    module = ModuleType("config")
    module.model = {"d_model": 64}  # type: ignore[attr-defined]
    assert core_of(build_model(module)).projection.in_features == 64


def test_a_path_is_read_by_the_config_reader(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {family: linear, individual: true}\ndata: {features: S, seq_len: 48}\n")
    for given in (path, str(path)):
        model = build_model(given)
        assert isinstance(model, LinearForecaster)
        # One target needs no map of its own: `individual` has no effect.
        assert model.map.weight.shape == (24, 48)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model": {"d_model": 33}}, "d_model"),
        ({"model": {"depth": 3}}, "depth"),
        ({"model": {"family": "oracle"}}, "oracle"),
        ({"model": 3}, "model"),
        (17, "int"),
    ],
)
def test_what_is_no_configuration_is_refused_by_name(config: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_model(config)  # type: ignore[arg-type]


def test_the_original_import_works_inside_the_package_folder() -> None:
    code = "from model import build_model; print(type(build_model({'model': {'d_model': 64}})).__name__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = run_python(["-c", code], cwd=ROOT / "nas_system", env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "Informer"), done.stderr


def test_a_checkout_of_informer2020_takes_the_place_of_our_core(checkout: Path) -> None:
    sentinel = ModuleType("utils")
    sys.modules["utils"] = sentinel
    path_before = list(sys.path)
    try:
        config = RunConfig(model=InformerConfig(normalization="last", linear_path=False, attention="full"))
        model = build_model(config, informer2020_path=checkout)
        assert sys.modules["utils"] is sentinel
    finally:
        del sys.modules["utils"]
    assert "models" not in sys.modules
    assert sys.path == path_before
    core = core_of(model)
    arguments = core.arguments
    assert core.source == "checkout"
    expected = {"enc_in": 7, "c_out": 1, "seq_len": 96, "label_len": 48, "out_len": 24, "freq": "h"}
    expected |= {"attn": "full", "embed": "timeF", "d_model": 32, "d_ff": 64, "mix": True, "factor": 5}
    assert {name: arguments[name] for name in expected} == expected
    x = torch.randn(2, 96, 7)
    out = model(x, torch.zeros(2, 96, 4), torch.zeros(2, 24, 4))
    # The stand-in forecasts its decoder input, zeros: normalised by the last value, that is the last value.
    torch.testing.assert_close(out, x[:, -1:, 6:].expand(-1, 24, -1))


def test_the_checkout_may_be_named_by_the_environment_and_only_the_informer_heeds_it(checkout: Path) -> None:
    code = (
        "from nas_system.model import build_model\n"
        "print(type(build_model({}).core).__module__, type(build_model({'family': 'linear'})).__name__)"
    )
    done = run_python(
        ["-c", code], env=os.environ | {"INFORMER2020_PATH": str(checkout), "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout.strip()) == (0, "models.model LinearForecaster"), done.stderr


def test_a_path_without_the_model_is_refused(tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no models/model.py"):
        build_model({}, informer2020_path=tmp_path / "nowhere")
    (checkout / "models" / "model.py").write_text("import module_that_is_not_there\n")
    with pytest.raises(ConfigError, match="cannot be imported"):
        build_model({}, informer2020_path=checkout)


def test_marks_that_the_checkout_cannot_express_are_refused(checkout: Path) -> None:
    shape = SeriesShape(seq_len=96, pred_len=24, n_inputs=7, target_columns=(6,), n_marks=9)
    with pytest.raises(ConfigError, match="9 time marks"):
        build_model({}, shape, informer2020_path=checkout)
