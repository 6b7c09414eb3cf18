"""The one way to build any model: `build_model(config)`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

if not __package__:
    # Run from inside this folder (`from model import build_model`): the package itself must be importable.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import ValidationError
from torch import nn

from nas_system.errors import ConfigError
from nas_system.sequential.cnn_lstm import CNNLSTMForecaster
from nas_system.sequential.gru import GRUForecaster
from nas_system.sequential.informer import Informer
from nas_system.sequential.itransformer import ITransformerForecaster
from nas_system.sequential.linear import LinearForecaster, RidgeForecaster
from nas_system.sequential.lstm import LSTMForecaster
from nas_system.sequential.nhits import NHiTSForecaster
from nas_system.sequential.patchtst import PatchTSTForecaster
from nas_system.sequential.seq2seq_attention import Seq2SeqAttentionForecaster
from nas_system.sequential.tcn import TCNForecaster
from nas_system.sequential.tft import TFTForecaster
from nas_system.sequential.tide import TiDEForecaster
from nas_system.sequential.tsmixer import TSMixerForecaster
from nas_system.space.changes import explain
from nas_system.space.families import GraphTransformerConfig, InformerConfig
from nas_system.space.run_config import RunConfig
from nas_system.space.shape import GraphShape, SeriesShape

MODELS: dict[str, type[nn.Module]] = {
    "informer": Informer,
    "ridge": RidgeForecaster,
    "linear": LinearForecaster,
    "lstm": LSTMForecaster,
    "gru": GRUForecaster,
    "seq2seq_attention": Seq2SeqAttentionForecaster,
    "tcn": TCNForecaster,
    "cnn_lstm": CNNLSTMForecaster,
    "patchtst": PatchTSTForecaster,
    "itransformer": ITransformerForecaster,
    "tsmixer": TSMixerForecaster,
    "nhits": NHiTSForecaster,
    "tide": TiDEForecaster,
    "tft": TFTForecaster,
}
"""Every sequence family's class, by its key. A class takes (model config, SeriesShape)."""

ETTH1_COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")

Config = RunConfig | Mapping[str, Any] | ModuleType | str | Path


def build_model(
    config: Config,
    shape: SeriesShape | GraphShape | None = None,
    *,
    informer2020_path: str | Path | None = None,
) -> nn.Module:
    """Build the untrained model of a configuration.

    `config` is a RunConfig, the path of a config file, an imported config.py, or a mapping with the
    parts `model`, `data` and `task` (or the model's part alone). `shape` defaults to the one of the
    ETTh1 task; a graph family needs it. `informer2020_path`, by default the environment variable
    INFORMER2020_PATH: a checkout whose Informer is used in place of ours. Raises ConfigError for anything
    that is no configuration.
    """
    run_config = _run_config(config)
    if isinstance(run_config.model, GraphTransformerConfig):
        return _graph_model(run_config.model, shape)
    if isinstance(shape, GraphShape):
        raise ConfigError(f"the family {run_config.model.family} forecasts series; it needs a SeriesShape")
    shape = etth1_shape(run_config) if shape is None else shape
    path = informer2020_path or os.environ.get("INFORMER2020_PATH")
    if path and run_config.model.family == "informer":
        return _informer2020(path, run_config, shape)
    return MODELS[run_config.model.family](run_config.model, shape)


def _graph_model(config: GraphTransformerConfig, shape: SeriesShape | GraphShape | None) -> nn.Module:
    # Only now: nobody who forecasts a series pays for graphs.
    from nas_system.graphs.models import build_graph_model

    if not isinstance(shape, GraphShape):
        raise ConfigError(f"the family {config.family} is for graphs; pass `shape`, a GraphShape")
    return build_graph_model(config, shape)


def _informer2020(path: str | Path, config: RunConfig, shape: SeriesShape) -> nn.Module:
    from nas_system.integrations.informer2020 import load_informer2020

    assert isinstance(config.model, InformerConfig)
    try:
        core = load_informer2020(path, config.model, shape)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Informer(config.model, shape, core=core)


def etth1_shape(config: RunConfig) -> SeriesShape:
    """Return the shape of one ETTh1 window under `config`: seven hourly columns, four time marks."""
    targets = ETTH1_COLUMNS if config.forecasting.forecasts_all else config.forecasting.targets
    unknown = [name for name in targets if name not in ETTH1_COLUMNS]
    if config.task.dataset != "etth1" or unknown:
        raise ConfigError(
            f"build_model knows the columns of etth1 only, not those of dataset {config.task.dataset!r} "
            f"with targets {', '.join(targets)}; pass `shape`"
        )
    alone = config.data.features == "S" or not config.reads_covariates
    columns = targets if alone else ETTH1_COLUMNS
    return SeriesShape(
        seq_len=config.data.seq_len,
        pred_len=config.forecasting.pred_len,
        n_inputs=len(columns),
        target_columns=tuple(columns.index(name) for name in targets),
        n_marks=0 if config.model.time_marks == "none" else 4,
    )


def _run_config(config: Config) -> RunConfig:
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, str | Path):
        from nas_system.config_io.config_file import read_config

        return read_config(Path(config))
    parts: Mapping[str, Any] = vars(config) if isinstance(config, ModuleType) else config
    if not isinstance(parts, Mapping):
        raise ConfigError(f"a configuration is a RunConfig, a mapping or a path, not {type(config).__name__}")
    # How it is trained does not shape the model; a config.py may hold classes there.
    plain = {name: parts[name] for name in ("model", "data", "task") if name in parts}
    plain = plain or {"model": dict(parts)}
    part = plain.setdefault("model", {})
    if isinstance(part, Mapping):
        plain["model"] = {"family": "informer", **part}
    try:
        return RunConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(f"this configuration describes no model: {explain(error)}") from None
