"""Train the authors' own Informer: their class, from a checkout the user names in INFORMER2020_PATH.

Zhou et al. 2021, arXiv:2012.07436, https://github.com/zhouhaoyi/Informer2020. Nothing of it is part
of this project.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from nas_system.space.families import InformerConfig
from nas_system.space.shape import SeriesShape

FREQ_OF_MARKS = {1: "m", 2: "w", 3: "d", 4: "h", 5: "t", 6: "s"}
"""The checkout names the number of continuous time features by a frequency letter."""

TOO_COMMON = ("models", "utils")
"""The checkout's top-level packages; names that any other project may use as well."""


def load_informer2020(path: str | Path, config: InformerConfig, shape: SeriesShape) -> nn.Module:
    """Build their model, `(x_enc, x_mark_enc, x_dec, x_mark_dec) -> (B, pred_len, targets)`.

    Raises ValueError when `path` is no such checkout or cannot express the problem.
    """
    informer_class = _import_class(Path(path).expanduser())
    return informer_class(
        enc_in=shape.n_inputs,
        dec_in=shape.n_inputs,
        c_out=shape.n_targets,
        seq_len=shape.seq_len,
        label_len=config.label_len,
        out_len=shape.pred_len,
        factor=config.factor,
        d_model=config.d_model,
        n_heads=config.n_heads,
        e_layers=config.e_layers,
        d_layers=config.d_layers,
        d_ff=config.d_ff,
        dropout=config.dropout,
        attn=config.attention,
        embed=config.embed,
        freq=_freq(config, shape),
        activation=config.activation,
        distil=config.distil,
        mix=config.mix,
    )


def _freq(config: InformerConfig, shape: SeriesShape) -> str:
    known = FREQ_OF_MARKS if config.embed == "timeF" else {4: "h", 5: "t"}
    if shape.n_marks not in known:
        raise ValueError(
            f"Informer2020 has no frequency with {shape.n_marks} time marks for embed={config.embed!r}; "
            "unset INFORMER2020_PATH to train this project's Informer"
        )
    return known[shape.n_marks]


def _import_class(path: Path) -> type[nn.Module]:
    if not (path / "models" / "model.py").is_file():
        raise ValueError(
            f"INFORMER2020_PATH={path} holds no models/model.py; "
            "point it at a checkout of Informer2020 or unset it"
        )
    with _only_checkout(path):
        try:
            return importlib.import_module("models.model").Informer
        except (ImportError, AttributeError, SyntaxError) as error:
            raise ValueError(f"the Informer2020 checkout at {path} cannot be imported: {error}") from error


@contextmanager
def _only_checkout(path: Path) -> Iterator[None]:
    """Let the checkout's common names win while it is imported, and leave no trace of them."""
    others = _take_out()
    sys.path.insert(0, str(path))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(path))
        _take_out()
        sys.modules.update(others)


def _take_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in TOO_COMMON]
    return {name: sys.modules.pop(name) for name in names}
