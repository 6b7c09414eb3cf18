"""metrics.json and history.json of a run: strict JSON, written atomically."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_system.errors import StateError, advice_on_limit
from nas_system.files import read_object, read_record, write_json
from nas_system.processes.run_files import RunPaths

NON_FINITE = "non_finite"
"""Key under which a file lists the entries that were NaN or infinite and are null in it."""


def save_metrics(run_dir: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write `metrics.json` into the run's folder, which is made if missing.

    JSON has no NaN and no infinity: such numbers become null, and `non_finite` names them.
    """
    _save(RunPaths(Path(run_dir)).metrics, metrics)


def load_metrics(run_dir: str | Path) -> dict[str, Any]:
    """Return the metrics of a run. Raises StateError if the file is missing or cannot be read."""
    return _load(RunPaths(Path(run_dir)).metrics)


def planned_under(paths: RunPaths) -> int | None:
    """Return the most steps that a finished training was planned under; None if it does not say."""
    plan = (read_record(paths.metrics) or {}).get("plan")
    most = plan.get("most_steps") if isinstance(plan, dict) else None
    return most if type(most) is int and most >= 1 else None


def save_history(run_dir: str | Path, history: Mapping[str, Any]) -> None:
    """Write `history.json`: `{"best_epoch": 17, "epochs": [{"epoch": 0, "train_mse": 1.02, ...}, ...]}`.

    NaN and infinity as in `save_metrics`; `non_finite` then has entries such as `epochs.3.val_mse`.
    """
    _save(RunPaths(Path(run_dir)).history, history)


def load_history(run_dir: str | Path) -> dict[str, Any]:
    """Return the history of a run. Raises StateError if the file is missing or cannot be read."""
    return _load(RunPaths(Path(run_dir)).history)


def _save(path: Path, values: Mapping[str, Any]) -> None:
    found: list[str] = []
    plain = {str(key): _plain(value, str(key), found) for key, value in values.items() if key != NON_FINITE}
    # A file that is loaded, completed and saved again keeps its list.
    known = [name for name in values.get(NON_FINITE) or () if name not in found]
    if known or found:
        plain[NON_FINITE] = known + found
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plain)


def _plain(value: Any, name: str, found: list[str]) -> Any:
    """Return `value` as JSON; the names of NaN and infinite numbers are added to `found`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}", found) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}.{index}", found) for index, item in enumerate(value)]
    if not isinstance(value, bool | int | float | str) and hasattr(value, "item"):
        value = value.item()  # a scalar of numpy or torch, without importing either
    if isinstance(value, float) and not math.isfinite(value):
        found.append(name)
        return None
    return value


def _load(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError:
        raise StateError(f"{path} does not exist; has this run been trained?") from None
    except OSError as error:
        if advice_on_limit(error.errno):
            raise
        raise StateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StateError(
            f"{path} cannot be read: it {error}; train the run again or remove its folder"
        ) from None
