"""Trained forecasters as one ONNX file (https://onnx.ai), checked against torch before it is written."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_system.data.series import Series
from nas_system.errors import ConfigError, first_line
from nas_system.export.graph import Member, WeightedMean
from nas_system.export.instructions import instructions
from nas_system.export.operators import OPSET, added_operators
from nas_system.export.signature import FORECAST, Signature, Windows
from nas_system.files import write_atomic
from nas_system.nas_agent.log_text import one_line
from nas_system.training.extras import import_extra

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from nas_system.tasks.saved_forecaster import SavedForecaster

TOLERANCE = 1e-5
"""Largest difference between the file and torch, in standard deviations of a target's training rows. Where
a scaled forecast is larger than 1, relative to it: float32 has seven digits."""

MOST_WINDOWS = 100
"""Number on which file and torch are compared."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    instructions: Path
    """How to call it without this package."""
    signature: Signature
    inputs: tuple[str, ...]
    """Names of the graph's inputs; those that no member reads are left out."""
    windows: int
    """Number of windows on which it was compared with torch."""
    difference: float
    """The largest one there, as in TOLERANCE."""


def export_onnx(
    forecasters: Sequence[SavedForecaster], weights: Sequence[float], path: Path, series: Series
) -> Exported:
    """Write the weighted mean of `forecasters` to `path` (a `.onnx`), and `path`.md next to it.

    The graph takes the last rows of the union of the members' columns, in data units and 64 bits, and scales
    inside; it computes in 32 bits, also where a training did not. It is compared with torch on windows of
    `series`. Weights are divided by their sum. Raises ConfigError where the extra `onnx` is not installed,
    for a family that cannot be written, for a difference above TOLERANCE and for a place that cannot be
    written to; there is no file then.
    """
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: the exported file is an ONNX graph; name it so, for example model.onnx")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it")
    for package in ("onnx", "onnxruntime"):
        import_extra(package, "onnx")
    signature = Signature.of(forecasters)
    if len(weights) != len(forecasters) or min(weights) < 0 or not 0 < sum(weights) < np.inf:
        raise ConfigError(f"{len(forecasters)} forecasters need a weight each, none below 0, not all 0")
    members = [Member(forecaster, signature) for forecaster in forecasters]
    graph = WeightedMean(members, weights)
    windows = Windows.of(series, signature, MOST_WINDOWS)
    content = _described(_traced(graph, windows), signature)
    session = _opened(content)
    difference = _difference(session, graph, windows)
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"the exported graph of {_families(members)} differs from torch by {difference:.1e} on "
            f"{len(windows)} windows, where {TOLERANCE:.0e} is allowed; nothing was written"
        )
    inputs = tuple(entry.name for entry in session.get_inputs())
    text_path = path.with_name(f"{path.name}.md")
    text = instructions(path.name, signature, inputs, _families(members), len(windows), difference)
    try:
        write_atomic(path, content)
        write_atomic(text_path, text.encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}; choose another place"
        ) from None
    return Exported(path, text_path, signature, inputs, len(windows), difference)


def why_no_baselines(names: Sequence[str]) -> str:
    """Say why these baselines are not in an exported graph, and what to do."""
    named = one_line(", ".join(names), 200)
    return (
        f"{named}: a baseline is fitted again to the rows it forecasts from, so it is no graph to export; "
        "name a run with --run, or forecast with nas predict"
    )


def _traced(graph: WeightedMean, windows: Windows) -> bytes:
    """Return the graph as ONNX. Raises ConfigError, naming the first family that cannot be written."""
    try:
        return _as_onnx(graph, windows)
    except (RuntimeError, TypeError, ValueError) as error:
        family, reason = _families([*graph.members]), first_line(error)
        for member in graph.members:
            try:
                _as_onnx(WeightedMean([member], [1.0]), windows)  # pyright: ignore[reportArgumentType]
            except (RuntimeError, TypeError, ValueError) as own:
                family, reason = str(member.family), first_line(own)
                break
    raise ConfigError(
        f"the family {family} cannot be written as ONNX: {one_line(reason, 300)}; export a run of another one"
    )


def _as_onnx(graph: WeightedMean, windows: Windows) -> bytes:
    names = list(windows.inputs)
    buffer = io.BytesIO()
    with added_operators(), torch.no_grad():
        torch.onnx.export(
            graph,
            _tensors(windows, 2),  # one alone could be taken for a size that is always 1
            buffer,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            input_names=names,
            output_names=[FORECAST],
            dynamic_axes={name: {0: "batch"} for name in (*names, FORECAST)},
            opset_version=OPSET,
        )
    return buffer.getvalue()


def _described(content: bytes, signature: Signature) -> bytes:
    """Return the file with what its numbers mean in its metadata."""
    onnx: Any = import_extra("onnx", "onnx")
    model = onnx.load_model_from_string(content)
    for name, value in (
        ("columns", signature.columns),
        ("targets", signature.targets),
        ("step", signature.freq),
        ("time_marks", signature.kinds),
    ):
        entry = model.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    return model.SerializeToString()


def _opened(content: bytes) -> InferenceSession:
    onnxruntime: Any = import_extra("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as error:
        raise ConfigError(
            f"onnxruntime cannot read the exported graph: {one_line(str(error), 300)}"
        ) from None


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises, which has no base of its own."""
    module = import_extra("onnxruntime.capi.onnxruntime_pybind11_state", "onnx")
    kinds = (kind for kind in vars(module).values() if isinstance(kind, type))
    return tuple(kind for kind in kinds if issubclass(kind, Exception))


def _difference(session: InferenceSession, graph: WeightedMean, windows: Windows) -> float:
    """Return the largest difference between file and torch, for all windows at once and for one alone."""
    std = torch.stack([member.target_std for member in graph.members]).amin(dim=0)  # pyright: ignore
    mean = graph.members[0].target_mean
    known = {entry.name for entry in session.get_inputs()}
    largest = 0.0
    for count in (len(windows), 1):
        given = windows.first(count)
        with torch.no_grad():
            expected = graph(*_tensors(windows, count))
        try:
            outputs: list[NDArray[np.float64]] = session.run(  # pyright: ignore[reportAssignmentType]
                [FORECAST], {name: values for name, values in given.items() if name in known}
            )
        except _runtime_errors() as error:
            raise ConfigError(
                f"onnxruntime cannot run the exported graph: {one_line(str(error), 300)}"
            ) from None
        allowed = std * ((expected - mean).abs() / std).clamp(min=1.0)
        differences = (torch.from_numpy(outputs[0]) - expected).abs() / allowed
        largest = max(largest, float(differences.nan_to_num(nan=np.inf).max()))
    return largest


def _tensors(windows: Windows, count: int) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(values) for values in windows.first(count).values())


def _families(members: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(str(member.family) for member in members))
