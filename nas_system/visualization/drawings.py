"""What a picture of a run is drawn from, as plain values: kept by the training, drawn by any process.

In JSON an array is its bytes in base64, so that the picture is the same whenever it is drawn. What is read
back may be anything: sizes are bounded, names are those of a run's pictures.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.processes.run_files import RunPaths
from nas_system.visualization.attention import AttentionMap, attention_picture
from nas_system.visualization.confusion_matrix import confusion_matrix
from nas_system.visualization.forecasts import forecast_examples
from nas_system.visualization.molecule import MoleculeDrawing, molecule_picture
from nas_system.visualization.predicted_values import predicted_values

MOST_MAPS = 64
"""Attention maps above each other in one picture."""
MOST_CLASSES = 1000
MOST_ATOMS = 1000
"""Finding places for them takes time that grows with their cube."""
_DTYPES = ("float32", "float64", "int64")
_LARGEST = 1e300
_NAMES = frozenset({RunPaths(Path()).predictions.name, RunPaths(Path()).attention.name})


@dataclass(frozen=True)
class Drawing:
    """One picture of a run, not drawn yet."""

    kind: str
    """The name of a function of this package, in `_KINDS`."""
    file: str
    """The picture's name in the run's folder."""
    values: Mapping[str, Any]
    """The function's arguments: texts, numbers, arrays, lists and mappings of them."""

    def draw(self, folder: Path, title: str) -> None:
        """Draw the picture into `folder`. Raises ValueError for values that are no such picture's."""
        _KINDS[self.kind](self.values, folder / self.file, title)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"kind": self.kind, "file": self.file, "values": _encoded(dict(self.values))}

    @classmethod
    def from_json(cls, value: Any) -> Drawing:
        """Read a drawing from a file of any origin. Raises ValueError."""
        if not isinstance(value, dict) or value.get("kind") not in _KINDS or value.get("file") not in _NAMES:
            raise ValueError("not a picture of a run")
        values = _decoded(value.get("values"))
        if not isinstance(values, dict):
            raise ValueError("a picture without values")
        return cls(value["kind"], value["file"], values)


def forecasts(
    past: NDArray[Any], truth: NDArray[Any], forecast: NDArray[Any], *, column: str, labels: Sequence[str]
) -> Drawing:
    """Return the picture that `forecast_examples` draws."""
    values = {"past": past, "truth": truth, "forecast": forecast, "column": column, "labels": list(labels)}
    return Drawing("forecasts", RunPaths(Path()).predictions.name, values)


def attention(maps: Sequence[AttentionMap], *, seq_len: int, example_label: str) -> Drawing:
    """Return the picture that `attention_picture` draws."""
    values = {"maps": [vars(one) for one in maps], "seq_len": seq_len, "example_label": example_label}
    return Drawing("attention", RunPaths(Path()).attention.name, values)


def confusions(truth: NDArray[Any], predicted: NDArray[Any], *, names: Sequence[str] = ()) -> Drawing:
    """Return the picture that `confusion_matrix` draws."""
    values = {"truth": truth, "predicted": predicted, "names": list(names)}
    return Drawing("confusions", RunPaths(Path()).predictions.name, values)


def predicted_numbers(truth: NDArray[Any], predicted: NDArray[Any]) -> Drawing:
    """Return the picture that `predicted_values` draws."""
    return Drawing("numbers", RunPaths(Path()).predictions.name, {"truth": truth, "predicted": predicted})


def molecule(drawing: MoleculeDrawing) -> Drawing:
    """Return the picture that `molecule_picture` draws."""
    return Drawing("molecule", RunPaths(Path()).attention.name, vars(drawing))


def _draw_forecasts(values: Mapping[str, Any], path: Path, title: str) -> None:
    past, truth, forecast = (_array(values, name, 2) for name in ("past", "truth", "forecast"))
    if truth.shape != forecast.shape or len(past) != len(truth):
        raise ValueError("windows of different shapes")
    column, labels = _text(values, "column"), _texts(values, "labels")
    forecast_examples(past, truth, forecast, path, column=column, title=title, labels=labels)


def _draw_attention(values: Mapping[str, Any], path: Path, title: str) -> None:
    listed = values.get("maps")
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_MAPS:
        raise ValueError("no attention maps, or too many")
    maps = [_attention_map(one) for one in listed]
    label, seq_len = _text(values, "example_label"), _whole(values, "seq_len")
    attention_picture(maps, path, seq_len=seq_len, title=title, example_label=label)


def _attention_map(values: Any) -> AttentionMap:
    if not isinstance(values, Mapping):
        raise ValueError("not an attention map")
    mean, example = _array(values, "mean", 2), _array(values, "example", 2)
    if mean.shape != example.shape:
        raise ValueError("maps of different shapes")
    numbers = {name: _whole(values, name) for name in ("n_windows", "example_window")}
    return AttentionMap(name=_text(values, "name"), mean=mean, example=example, **numbers)


def _draw_confusions(values: Mapping[str, Any], path: Path, title: str) -> None:
    truth, predicted = _array(values, "truth").reshape(-1), _array(values, "predicted").reshape(-1)
    both = np.concatenate((truth, predicted))
    if len(truth) != len(predicted) or not ((both >= 0) & (both < MOST_CLASSES)).all():
        raise ValueError("no classes, or too many")
    names = _texts(values, "names")[:MOST_CLASSES]
    confusion_matrix(truth, predicted, path, title=title, names=names)


def _draw_numbers(values: Mapping[str, Any], path: Path, title: str) -> None:
    truth, predicted = _array(values, "truth"), _array(values, "predicted")
    if truth.size != predicted.size:
        raise ValueError("truth and predictions of different sizes")
    predicted_values(truth, predicted, path, title=title)


def _draw_molecule(values: Mapping[str, Any], path: Path, title: str) -> None:
    atoms, kinds = _texts(values, "atoms"), _texts(values, "bond_types")
    weights, bonds = _array(values, "attention", 1), values.get("bonds")
    if not 0 < len(atoms) <= MOST_ATOMS or not isinstance(bonds, list | tuple):
        raise ValueError("no atoms, or too many")
    pairs = [(_whole(dict(enumerate(pair)), 0), _whole(dict(enumerate(pair)), 1)) for pair in bonds]
    drawing = MoleculeDrawing(atoms, pairs, kinds, weights, _whole(values, "center"))
    molecule_picture(drawing, path, title=title)


_KINDS: dict[str, Callable[[Mapping[str, Any], Path, str], None]] = {
    "forecasts": _draw_forecasts,
    "attention": _draw_attention,
    "confusions": _draw_confusions,
    "numbers": _draw_numbers,
    "molecule": _draw_molecule,
}


def _array(values: Mapping[Any, Any], name: str, dimensions: int | None = None) -> NDArray[Any]:
    """Return an array in which what cannot be drawn is NaN. Raises ValueError."""
    array = values.get(name)
    if not isinstance(array, np.ndarray) or not array.size or dimensions not in (None, array.ndim):
        raise ValueError(f"{name} is not the array that this picture has")
    if array.dtype.kind != "f":
        return array
    return np.where(np.abs(array) < _LARGEST, array, math.nan)


def _text(values: Mapping[Any, Any], name: str) -> str:
    return str(values.get(name, ""))


def _texts(values: Mapping[Any, Any], name: str) -> list[str]:
    listed = values.get(name, ())
    return [str(text) for text in listed] if isinstance(listed, list | tuple) else []


def _whole(values: Mapping[Any, Any], name: Any) -> int:
    number = values.get(name)
    if type(number) is not int or not 0 <= number < 10**9:
        raise ValueError(f"{name} is not a number that this picture has")
    return number


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        content = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"dtype": value.dtype.name, "shape": list(value.shape), "base64": content}
    if isinstance(value, Mapping):
        return {name: _encoded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(inner) for inner in value]
    return value


def _decoded(value: Any) -> Any:
    """Undo `_encoded`. Raises ValueError for an array that is none."""
    if isinstance(value, dict) and "base64" in value:
        dtype, shape = value.get("dtype"), value.get("shape")
        if dtype not in _DTYPES or not isinstance(shape, list) or not isinstance(value["base64"], str):
            raise ValueError("not an array")
        # An array of numbers alone: nothing in it is executed or allocated beyond its bytes.
        return np.frombuffer(base64.b64decode(value["base64"]), dtype=dtype).reshape(shape)
    if isinstance(value, dict):
        return {name: _decoded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_decoded(inner) for inner in value]
    return value
