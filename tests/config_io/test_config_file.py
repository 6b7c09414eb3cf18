"""config.py: read, written, found by name. What it refuses is in test_config_refusals.py."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_system.config_io.config_file import (
    available_configs,
    named_config,
    read_config,
    render_config,
    write_config,
)
from nas_system.config_io.torch_classes import CLASS_KEYS
from nas_system.errors import ConfigError
from nas_system.space import FAMILIES, RunConfig, TrainingConfig, canonical_key, family_default, parameters

PACKAGE = Path(__file__).parents[2] / "nas_system"

ORIGINAL = """
import torch.optim as optim
import torch.nn as nn

# Архитектура модели
model = {
    "d_model": 256,         # Размерность модели
    "n_heads": 4,           # Attention heads
    "e_layers": 3,          # Слои энкодера
    "d_layers": 1,          # Слои декодера
    "d_ff": 1024,           # Feedforward размерность
    "dropout": 0.1,         # Dropout
}

# Обучение
training = {
    "optimizer_class": optim.Adam,  # Или optim.AdamW, optim.SGD
    "optimizer_params": {
        "lr": 0.0001,
        "weight_decay": 0.0001,
    },
    "criterion_class": nn.MSELoss,  # Или nn.L1Loss, nn.SmoothL1Loss
    "scheduler_class": optim.lr_scheduler.CosineAnnealingLR,
    "scheduler_params": {"T_max": 10},
    "max_epochs": 20,
    "patience": 5,          # Early stopping
}
"""

MINIMAL = "import torch.optim as optim\nimport torch.nn as nn\nmodel = {}\ntraining = {%s}\n"


def config_of(tmp_path: Path, text: str, name: str = "config.py") -> RunConfig:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_the_original_configuration_is_read_as_it_stands(tmp_path: Path) -> None:
    config = config_of(tmp_path, ORIGINAL)
    model, training = config.model, config.training
    assert model.family == "informer"
    sizes = (model.d_model, model.n_heads, model.e_layers, model.d_layers, model.d_ff, model.dropout)
    assert sizes == (256, 4, 3, 1, 1024, 0.1)
    assert (training.optimizer, training.lr, training.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (training.loss, training.scheduler, training.t_max) == ("mse", "cosine", 10)
    assert (training.max_epochs, training.patience) == (20, 5)
    assert (config.seed, config.data.batch_size) == (42, 32)


def test_a_byte_order_mark_and_old_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    for content in ("\ufeff" + ORIGINAL, ORIGINAL.replace("\n", "\r\n"), ORIGINAL.replace("\n", "\r")):
        path.write_bytes(content.encode())
        assert read_config(path).model.model_dump()["d_model"] == 256


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import torch", "torch.optim.SGD"),
        ("import torch.optim", "torch.optim.SGD"),
        ("import torch.optim as optim", "optim.SGD"),
        ("from torch import nn, optim", "optim.SGD"),
        ("from torch.optim import SGD", "SGD"),
    ],
)
def test_every_usual_way_to_import_an_optimizer_works(tmp_path: Path, imports: str, name: str) -> None:
    text = f"{imports}\nmodel = {{}}\ntraining = {{'optimizer_class': {name}}}"
    assert config_of(tmp_path, text).training.optimizer == "sgd"


@pytest.mark.parametrize(
    "imports", ["from torch.optim import lr_scheduler", "import torch.optim.lr_scheduler as lr_scheduler"]
)
def test_a_scheduler_may_come_from_its_own_module(tmp_path: Path, imports: str) -> None:
    text = f"{imports}\nmodel = {{}}\ntraining = {{'scheduler_class': lr_scheduler.ReduceLROnPlateau}}"
    assert config_of(tmp_path, text).training.scheduler == "plateau"


def test_every_choice_of_the_search_space_has_a_class_and_back() -> None:
    for kind in CLASS_KEYS:
        annotation = TrainingConfig.model_fields[kind.choice_field].annotation
        choices = set(get_args(annotation)) - {kind.no_class}
        assert {known.choice for known in kind.classes} == choices


def test_a_parameter_left_out_has_the_default_of_its_pytorch_class() -> None:
    for kind in CLASS_KEYS:
        for known in kind.classes:
            torch_class: Any = torch
            for part in known.name.split(".")[1:]:
                torch_class = getattr(torch_class, part)
            signature = inspect.signature(torch_class).parameters
            assert set(known.fields) <= set(signature)
            for name, default in known.defaults.items():
                if name != "T_max":  # PyTorch has none; ours is max_epochs
                    assert signature[name].default == default, (known.name, name)
            needed = {n for n in known.fields if signature[n].default is inspect.Parameter.empty}
            assert needed - {"T_max"} == set(known.fields) - set(known.defaults)


def test_leaving_momentum_and_scheduler_out_means_none_as_in_pytorch(tmp_path: Path) -> None:
    config = config_of(tmp_path, MINIMAL % '"optimizer_class": optim.SGD, "optimizer_params": {"lr": 0.01}')
    assert (config.training.momentum, config.training.scheduler) == (0.0, "none")


def test_label_len_beside_seq_len_belongs_to_the_decoder(tmp_path: Path) -> None:
    text = MINIMAL % "" + 'data = {"seq_len": 48, "label_len": 24, "features": "S"}\nseed = 7'
    config = config_of(tmp_path, text)
    assert config.model.model_dump()["label_len"] == 24
    assert (config.data.seq_len, config.data.features, config.seed) == (48, "S", 7)


def test_yaml_json_and_python_say_the_same(tmp_path: Path) -> None:
    plain = {
        "model": {"family": "linear", "normalization": "mean"},
        "data": {"seq_len": 168},
        "training": {"lr": 0.001, "scheduler": "step", "step_size": 2, "gamma": 0.3},
        "task": {"targets": ["OT", "HUFL"], "pred_len": 48},
        "seed": 3,
    }
    config = config_of(tmp_path, yaml.safe_dump(plain), "config.yaml")
    assert config.task.targets == ("OT", "HUFL")
    assert config_of(tmp_path, json.dumps(plain), "config.json") == config
    again = config_of(tmp_path, render_config(config))
    assert (canonical_key(again), again.task, again.seed) == (canonical_key(config), config.task, 3)


def test_yaml_takes_1e_3_for_the_number_it_is(tmp_path: Path) -> None:
    assert config_of(tmp_path, "training: {lr: 1e-3}", "config.yml").training.lr == 0.001


# ------------------------------------------------------------------------------------ rendering

HOSTILE = [
    "'",
    '"',
    "\\",
    "'''",
    '"""',
    "a\nb",
    "a\r\nb",
    "\u2028\u2029\x85\x0c\x1b[31m",
    "\\u0027); import os #",
    '"}\n__import__("os").system("true")\n#',
    "{0.__class__}",
    "%s%n",
    "🙂",
    "тест",
    "\x00",
    "\\N{BULLET}",
    "#",
    "",
]


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    """Any configuration: every family, usual and unusual values, hostile text."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    plain: dict[str, Any] = {"model": {"family": family}, "data": {}, "training": {}}
    for parameter in parameters(family):
        group, name = parameter.path.split(".")
        if parameter.choices:
            plain[group][name] = draw(st.sampled_from(parameter.choices))
        elif parameter.kind == "int":
            plain[group][name] = draw(st.integers(int(parameter.low or 0), int(parameter.high or 0)))
        else:
            plain[group][name] = draw(st.floats(parameter.low, parameter.high))
    if draw(st.booleans()):
        plain["training"]["t_max"] = None
    text = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"])))
    plain["task"] = {
        "dataset": draw(text),
        "targets": tuple(draw(st.lists(text, min_size=1, max_size=3, unique=True))),
        "pred_len": draw(st.integers(1, 10_000)),
    }
    if draw(st.booleans()):
        plain["task"] |= {"train_rows": 10, "val_rows": 20, "test_rows": 30}
    plain["seed"] = draw(st.integers(0, 2**31 - 1))
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        assume(False)
        raise


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(config=configs(), comments=st.booleans())
def test_what_is_written_reads_back_as_the_same_training(config: RunConfig, comments: bool) -> None:
    text = render_config(config, comments=comments)
    assert text.isascii()
    # Python itself is the judge of what the text says. Only text rendered here is ever executed.
    said: dict[str, Any] = {}
    exec(compile(text, "config.py", "exec"), said)
    assert said["task"]["dataset"] == config.task.dataset
    assert said["task"]["targets"] == list(config.task.targets)
    assert said["seed"] == config.seed
    assert said["training"].get("max_epochs") == (
        config.training.max_epochs if config.training.max_steps is None else None
    )
    for kind in CLASS_KEYS:
        choice = getattr(config.training, kind.choice_field)
        names = {known.choice: known.usual.rsplit(".", 1)[-1] for known in kind.classes}
        assert getattr(said["training"][kind.key], "__name__", "none") == names.get(choice, "none")


def test_a_rendering_has_only_what_has_an_effect() -> None:
    text = render_config(named_config("linear"), comments=False)
    assert "kernel" not in text
    assert "momentum" not in text
    assert "#" not in text
    assert '"""' not in text


def test_no_line_of_a_rendering_is_wider_than_the_code_beside_it() -> None:
    for family in FAMILIES:
        assert max(map(len, render_config(family_default(family)).splitlines())) <= 110


def test_a_configuration_that_nobody_validated_is_not_written(tmp_path: Path) -> None:
    good = named_config("default")
    bad = good.model_copy(update={"model": good.model.model_copy(update={"d_model": "64"})})
    with pytest.raises(ConfigError):
        write_config(tmp_path / "config.py", bad)
    other = good.model_copy(update={"task": good.task.model_copy(update={"targets": ["OT"]})})
    with pytest.raises(ConfigError, match="reads back differently"):
        write_config(tmp_path / "config.py", other)
    assert not list(tmp_path.iterdir())


def test_writing_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("old")
    write_config(path, named_config("linear"))
    assert canonical_key(read_config(path)) == canonical_key(family_default("linear"))
    assert [file.name for file in tmp_path.iterdir()] == ["config.py"]


# ----------------------------------------------------------------------------- named configurations


REGENERATE = (
    'python -c "from nas_system.config_io.config_file import named_config, write_config; '
    "write_config('nas_system/config.py', named_config('informer'))\""
)


def test_the_default_configuration_is_the_informers() -> None:
    default, family = read_config(PACKAGE / "config.py"), family_default("informer")
    assert canonical_key(default) == canonical_key(family), f"config.py is not up to date; {REGENERATE}"
    assert (default.seed, default.task) == (family.seed, family.task)


def test_the_comments_of_the_default_configuration_are_the_fields_own() -> None:
    text = (PACKAGE / "config.py").read_text(encoding="utf-8")
    assert text == render_config(family_default("informer")), f"config.py is not up to date; {REGENERATE}"


def test_the_original_sizes_are_kept_for_comparison(tmp_path: Path) -> None:
    config = named_config("informer_256")
    original = config_of(tmp_path, ORIGINAL)
    assert config.training == original.training
    plain = config.model.model_dump() | {"normalization": "last", "linear_path": True}
    assert plain == original.model.model_dump()
    assert config.model.model_dump()["normalization"] == "none"
    assert config.model.model_dump()["linear_path"] is False
    assert (config.data.features, config.data.seq_len, config.data.batch_size) == ("MS", 96, 32)


def test_every_named_configuration_can_be_read() -> None:
    assert {"default", "informer_256", *FAMILIES} <= set(available_configs())
    for name in available_configs():
        assert isinstance(named_config(name), RunConfig)
    for family in FAMILIES:
        assert named_config(f"{family}_default") == family_default(family) == named_config(family)


def test_a_name_with_a_suffix_or_a_folder_is_a_file(tmp_path: Path) -> None:
    config_of(tmp_path, ORIGINAL)
    assert named_config(tmp_path / "config.py").model.model_dump()["d_model"] == 256
    with pytest.raises(ConfigError, match="is not a file"):
        named_config("absent.py")
    with pytest.raises(ConfigError, match="is not a file"):
        named_config(f".{os.sep}default")


def test_an_unknown_name_lists_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no configuration 'informr'.*default, informer_256, informer"):
        named_config("informr")
