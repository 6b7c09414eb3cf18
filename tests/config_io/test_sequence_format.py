"""The YAML shape of sequence models, read as a configuration of this program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas_system.config_io.config_file import read_config, render_config
from nas_system.errors import ConfigError
from nas_system.space import RunConfig, TrainingConfig, families_of

ORIGINAL = """
model_type: lstm
task: forecasting

architecture:
  input_size: auto  # from the data
  hidden_size: 128
  num_layers: 2
  seq_length: 50
  dropout: 0.2
  bidirectional: false

training:
  batch_size: 128
  epochs: 100
  learning_rate: 0.001
  optimizer: adam
  scheduler: onecycle
  early_stopping: 10

device: auto
mixed_precision: true
"""


def config_of(tmp_path: Path, text: str, name: str = "lstm.yaml") -> RunConfig:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def changed(old: str, new: str) -> str:
    assert ORIGINAL.count(old) == 1
    return ORIGINAL.replace(old, new)


def test_the_original_file_is_read_as_it_stands(tmp_path: Path) -> None:
    config = config_of(tmp_path, ORIGINAL)
    model: Any = config.model
    training = config.training
    assert (model.family, model.hidden_size, model.num_layers) == ("lstm", 128, 2)
    assert (model.dropout, model.bidirectional) == (0.2, False)
    assert (config.data.seq_len, config.data.batch_size) == (50, 128)
    assert (training.optimizer, training.lr, training.scheduler) == ("adam", 0.001, "onecycle")
    assert (training.max_epochs, training.patience, training.precision) == (100, 10, "bf16")
    assert read_config_again(tmp_path, config) == config


def read_config_again(tmp_path: Path, config: RunConfig) -> RunConfig:
    return config_of(tmp_path, render_config(config), "config.py")


def test_json_has_the_same_shape(tmp_path: Path) -> None:
    text = json.dumps(yaml.safe_load(ORIGINAL))
    assert config_of(tmp_path, text, "lstm.json") == config_of(tmp_path, ORIGINAL)


@pytest.mark.parametrize("family", families_of("forecasting"))
def test_every_family_can_be_named_and_has_its_defaults(tmp_path: Path, family: str) -> None:
    config = config_of(tmp_path, f"model_type: {family}\n")
    assert config == RunConfig.model_validate({"model": {"family": family}})


@pytest.mark.parametrize(
    ("family", "width", "depth"),
    [
        ("lstm", "hidden_size", "num_layers"),
        ("informer", "d_model", "e_layers"),
        ("tsmixer", "d_ff", "num_layers"),
    ],
)
def test_width_and_depth_go_by_the_familys_names(tmp_path: Path, family: str, width: str, depth: str) -> None:
    text = f"model_type: {family}\narchitecture: {{hidden_size: 16, num_layers: 3}}\n"
    values = config_of(tmp_path, text).model.model_dump()
    assert (values[width], values[depth]) == (16, 3)


def test_a_familys_own_fields_and_further_training_fields_are_taken(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "model_type: tcn\narchitecture: {kernel_size: 7, normalization: mean}\nseed: 7\n"
        "training: {optimizer: adamw, weight_decay: 1e-3, augmentation: jitter, scheduler: cosine}\n",
    )
    model: Any = config.model
    assert (model.kernel_size, model.normalization, config.seed) == (7, "mean", 7)
    training = config.training
    assert (training.weight_decay, training.augmentation, training.scheduler) == (1e-3, "jitter", "cosine")


def test_null_switches_off_what_it_stands_beside(tmp_path: Path) -> None:
    text = changed("early_stopping: 10", "early_stopping: null").replace(
        "scheduler: onecycle", "scheduler: null"
    )
    training = config_of(tmp_path, text).training
    assert (training.scheduler, training.patience) == ("none", 100)
    assert config_of(
        tmp_path, changed("mixed_precision: true", "mixed_precision: false")
    ).training.precision == (TrainingConfig().precision)


def test_a_task_may_say_what_is_forecast(tmp_path: Path) -> None:
    config = config_of(tmp_path, changed("task: forecasting", "task: {targets: [HUFL, OT], pred_len: 48}"))
    assert (config.task.targets, config.task.pred_len) == (("HUFL", "OT"), 48)
    assert config_of(tmp_path, changed("task: forecasting", "task: regression")).task == RunConfig().task


REFUSED = {
    "a classification": (
        "task: forecasting",
        "task: classification",
        r"line 3: .*BaseSequentialModel\.from_config",
    ),
    "another task": ("task: forecasting", "task: ranking", "line 3: task='ranking' is neither"),
    "a task's field": ("task: forecasting", "task: {horizon: 3}", "line 3: task has no key 'horizon'"),
    "another family": (
        "model_type: lstm",
        "model_type: lstn",
        "line 2: model_type='lstn' is none of: informer",
    ),
    "a list as family": ("model_type: lstm", "model_type: [lstm]", "line 2: model_type="),
    "a number of inputs": ("input_size: auto", "input_size: 7", "line 6: input_size=7 comes from the data"),
    "a width too large": (
        "hidden_size: 128",
        "hidden_size: 9999",
        r"line 7: model\.hidden_size=9999.*2 \.\. 1024",
    ),
    "a rate too large": ("learning_rate: 0.001", "learning_rate: 5", r"line 16: training\.lr=5"),
    "a negative patience": ("early_stopping: 10", "early_stopping: -1", r"line 19: training\.patience=-1"),
    "a batch of words": ("batch_size: 128", "batch_size: many", r"line 14: data\.batch_size='many'"),
    "another family's field": (
        "bidirectional: false",
        "kernel_size: 3",
        "line 11: architecture has no key 'kernel",
    ),
    "a field's name here": ("seq_length: 50", "seq_len: 50", "line 9: .*architecture, as seq_length"),
    "a key of training": ("dropout: 0.2", "epochs: 2", "line 10: .*'epochs'; it belongs to training"),
    "a key of architecture": ("epochs: 100", "hidden_size: 3", "line 15: .*it belongs to architecture"),
    "a misspelling": ("epochs: 100", "epoch: 100", "line 15: .*did you mean epochs"),
    "a key of another shape": ("device: auto", "data: {}", "line 21: a configuration has no key 'data'"),
    "a precision": ("epochs: 100", "precision: bf16", "line 15: .*top of the file, as mixed_precision"),
    "a GPU": ("device: auto", "device: gpu", "line 21: .*write auto here and start with --device cuda:0"),
    "a CPU": ("device: auto", "device: cpu", "line 21: .*--device cpu"),
    "mixed how": ("mixed_precision: true", "mixed_precision: fp16", "line 22: .*is true or false"),
    "half precision by name": ("scheduler: onecycle", "scheduler: twocycle", r"line 18: training\.scheduler"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    old, new, said = REFUSED[case]
    with pytest.raises(ConfigError, match=rf"lstm\.yaml: {said}"):
        config_of(tmp_path, changed(old, new))


def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2: training is a mapping"):
        config_of(tmp_path, "model_type: lstm\ntraining: 3\n")


def test_a_width_under_the_familys_own_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="architecture has no key 'd_model'"):
        config_of(tmp_path, "model_type: informer\narchitecture: {d_model: 64}\n")


def test_a_family_without_a_width_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="architecture has no key 'hidden_size'"):
        config_of(tmp_path, "model_type: linear\narchitecture: {hidden_size: 64}\n")
