"""Families' defaults, fitted to a series: its best linear forecast and its length say where to start.

A look-back and a normalisation that suit one linear map suit the networks around it; and one optimizer step
on a large share of a short series teaches less than several on smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

LONGEST_LOOK_BACK = 512
"""Steps up to which a network takes over the look-back of the linear forecast: its cost grows with it."""
BATCHES_PER_PASS = 8
"""Fewest batches into which the training windows are divided, as far as batches of SMALLEST_BATCH allow."""
SMALLEST_BATCH = 16
SHORT = 4_000
"""Training windows below which a network starts from the ridge regression, and the base configuration is
fitted to the series, too. On 8,281 windows of ETTh1 an iTransformer that starts there stays there (val .0490
against .0478); on four series of up to 2,100 windows it ends lower than from the mean."""
CLEARLY = 0.95
"""Share of the best error with the last value subtracted, below which networks take over another
normalisation: a near tie of linear maps is none of networks (an iTransformer on ETTh1: val .0478 with the
last value, .0494 with the mean, where ridge regressions have .04887 and .04885)."""
STEPS_OF_SHORT = 400
"""Most optimizer steps of a default below that: the regression leaves little to learn."""


@dataclass(frozen=True)
class SeriesFit:
    """A series' best linear forecast (see `nas_system.data.measures.closed_form`), and its training rows."""

    seq_len: int
    normalization: str
    season: int | None
    strength: float
    individual: bool
    time_features: bool
    val_mse: float
    last_val_mse: float
    """The lowest error of those that subtract the last value."""
    train_rows: int
    several: tuple[int, int] | None = None
    """Of several series: how many, and their training rows together."""

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Self | None:
        """Read it from a task's info, which anybody may have edited; None if nothing of the kind is there."""
        ridge, split = measured.get("ridge"), measured.get("split")
        if not isinstance(ridge, Mapping) or not isinstance(split, Mapping):
            return None
        train = split.get("train")
        rows = train[1] if isinstance(train, list) and len(train) == 2 else None
        found = measured.get("series")
        count, together = (
            found.get(name) if isinstance(found, Mapping) else None for name in ("count", "train_rows")
        )
        several = None if count is None and together is None else (count, together)
        try:
            fit = TypeAdapter(cls).validate_python({**ridge, "train_rows": rows, "several": several})
        except ValidationError:
            return None
        # No longer look-back is ever tried (see `search_closed_form`).
        return fit if 2 <= fit.seq_len <= fit.train_rows // 2 else None

    def windows(self, seq_len: int, pred_len: int) -> int:
        """Return how many training windows there are at a look-back."""
        count, rows = self.several or (1, self.train_rows)
        return rows - count * (seq_len + pred_len - 1)


def fitted_to_series(plain: Mapping[str, Any], fit: SeriesFit) -> dict[str, Any]:
    """Return a family's default, a dumped `RunConfig`, with the values that the series suggests."""
    model, data, training = dict(plain["model"]), dict(plain["data"]), dict(plain["training"])
    family = model["family"]
    if family == "ridge" or fit.val_mse < CLEARLY * fit.last_val_mse:
        model["normalization"] = fit.normalization
    if fit.season is not None:
        model["season"] = fit.season
    if family == "ridge":
        data["seq_len"] = fit.seq_len
        model |= {name: getattr(fit, name) for name in ("strength", "individual", "time_features")}
        return {**plain, "model": model, "data": data}
    longest = data["seq_len"] if family == "informer" else LONGEST_LOOK_BACK
    seq_len = data["seq_len"] = min(fit.seq_len, longest)
    windows = fit.windows(seq_len, plain["task"]["pred_len"])
    if windows < SHORT:
        if "linear_path" in model:
            model["linear_start"] = "ridge"
        if training["max_steps"] is not None:
            training["max_steps"] = min(training["max_steps"], STEPS_OF_SHORT)
    batch = max(SMALLEST_BATCH, 1 << max(windows // BATCHES_PER_PASS, 1).bit_length() - 1)
    data["batch_size"] = min(data["batch_size"], batch)
    model |= _sizes(model, seq_len, fit.season)
    return {**plain, "model": model, "data": data, "training": training}


def _sizes(model: Mapping[str, Any], seq_len: int, season: int | None) -> dict[str, Any]:
    """Return the model's lengths that have to go with another look-back."""
    sizes: dict[str, Any] = {}
    if "label_len" in model:
        sizes["label_len"] = min(model["label_len"], seq_len)
    if "patch_len" in model:
        fits = season is not None and 4 <= season <= seq_len // 2
        patch = season if fits else min(model["patch_len"], max(seq_len // 4, 2))
        sizes |= {"patch_len": patch, "stride": patch}
    if model["family"] == "tcn":
        # The fewest levels that reach back over the whole window (Bai et al. 2018, section 3.3).
        levels = 1
        while 1 + 2 * (model["kernel_size"] - 1) * (2**levels - 1) < seq_len:
            levels += 1
        sizes["num_layers"] = levels
    return sizes
