"""An ensemble, or a run alone, as an ONNX file."""

from __future__ import annotations

from pathlib import Path

from nas_system.data.series import Series
from nas_system.ensembles.forecaster import EnsembleForecaster
from nas_system.errors import ConfigError
from nas_system.export.onnx_file import export_onnx, why_no_baselines
from nas_system.files import write_atomic
from nas_system.tasks.baseline_forecaster import BaselineForecaster
from nas_system.tasks.saved_forecaster import SavedForecaster

Forecaster = SavedForecaster | BaselineForecaster | EnsembleForecaster


def export_forecaster(forecaster: Forecaster, series: Series, path: Path) -> str:
    """Write what forecasts as an ONNX file, without its baselines; return what to say of it.

    Raises ConfigError where nothing else is left, and for what cannot be exported.
    """
    if isinstance(forecaster, SavedForecaster):
        trained, weights, left_out = [forecaster], [1.0], []
    elif isinstance(forecaster, EnsembleForecaster):
        members = forecaster.members
        trained = [each for member in members for each in member.trained]
        weights = [member.weight / len(member.trained) for member in members for _ in member.trained]
        left_out = [member.name for member in members if member.baseline is not None]
    else:
        trained, weights, left_out = [], [], [forecaster.method.name]
    if not trained:
        raise ConfigError(why_no_baselines(left_out))
    if any(each.metadata.scalers for each in trained):
        raise ConfigError(
            "a graph holds one scale, and these weights forecast several series, each on a scale of its own; "
            "forecast with nas predict"
        )
    exported = export_onnx(trained, weights, path, series)
    note = ""
    if left_out:
        note = (
            f"{', '.join(left_out)} is left out of the graph, because a baseline is fitted to the rows it "
            "forecasts from; the graph is the mean of the others, and differs from what nas predict forecasts"
        )
        text = exported.instructions.read_text(encoding="utf-8")
        write_atomic(exported.instructions, f"{text.rstrip()}\n\nNote: {note}.\n".encode())
        note = f"note: {note}\n"
    return (
        f"{note}wrote {exported.path}, equal to torch within {exported.difference:.1g} on {exported.windows} "
        f"windows; {exported.instructions} says how to call it"
    )
