"""What a data set is like, in numbers: 23 features of Alcobaça et al. 2020, as 37 values.

    meta_features = get_meta_features(parameters, target)

Alcobaça, Siqueira, Rivolli, Garcia, Oliva, de Carvalho 2020, "MFE: Towards reproducible
meta-feature extraction", Journal of Machine Learning Research 21 (111). Computed by their package,
pymfe, which comes with the extra `netformer` and is loaded when the first value is needed.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_system.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

FEATURES = (
    "inst_to_attr",
    "nr_class",
    "nr_attr",
    "attr_to_inst",
    "skewness",
    "kurtosis",
    "cor",
    "cov",
    "attr_conc",
    "class_conc",
    "sparsity",
    "gravity",
    "class_ent",
    "attr_ent",
    "mut_inf",
    "eq_num_attr",
    "ns_ratio",  # noise to signal
    "f1",
    "f2",
    "tree_depth",
    "leaves_branch",
    "nodes_per_attr",
    "leaves_per_class",
)

SPREAD = (
    "attr_conc",
    "attr_ent",
    "class_conc",
    "cor",
    "cov",
    "f1",
    "f2",
    "kurtosis",
    "leaves_branch",
    "leaves_per_class",
    "mut_inf",
    "skewness",
    "sparsity",
    "tree_depth",
)
"""Features with one number per column, pair or leaf: their mean and standard deviation are given."""

NAMES = tuple(
    sorted(
        value
        for feature in FEATURES
        for value in ((f"{feature}.mean", f"{feature}.sd") if feature in SPREAD else (feature,))
    )
)
"""The values, always these and always in this order."""

MAX_ROWS = 1000
MAX_COLUMNS = 20
CLASSES = 5
VERSION = 1
"""Raise it when the same data would give other values: what older programs kept is not read then."""


@dataclass(frozen=True)
class MetaFeatures:
    """Values in the order of NAMES."""

    values: np.ndarray
    """float64; 0 where the value is not known."""
    known: np.ndarray
    """bool; a value can be undefined, as the correlation between the columns of one column is."""

    @property
    def names(self) -> tuple[str, ...]:
        return NAMES

    def as_dict(self) -> dict[str, float]:
        """The known values by name."""
        return {
            name: float(value)
            for name, value, known in zip(NAMES, self.values, self.known, strict=True)
            if known
        }


def get_meta_features(parameters: Any, target: Any, *, cache_dir: Path | None = None) -> MetaFeatures:
    """Meta-features of a data set: `parameters` (rows, columns) and `target` (rows,).

    At most 1,000 rows and 20 columns are looked at, spread evenly over the data. A target of more
    than five different values is cut into five classes of equal size: without classes the features of
    trees, and those of classes, do not exist. With a `cache_dir` (see `default_cache`) the same data
    is not measured twice. Raises ConfigError for data of another shape, data that is not finite, or
    without pymfe.
    """
    import numpy as np

    x = _table(parameters)
    y = np.asarray(target).reshape(-1)
    if len(y) != len(x):
        raise ConfigError(f"parameters has {len(x)} rows, but target has {len(y)}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ConfigError("target has values that are missing or infinite; drop those rows first")
    if len(x) < 2 * CLASSES:
        raise ConfigError(f"{len(x)} rows are too few for meta-features; {2 * CLASSES} are needed")
    kept = None if cache_dir is None else cache_dir / f"{fingerprint(x, y)}.json"
    found = _read(kept) if kept is not None else None
    if found is None:
        rows, columns = _spread(len(x), MAX_ROWS), _spread(x.shape[1], MAX_COLUMNS)
        found = _measure(x[rows][:, columns], classes(y)[rows])
        if kept is not None:
            _write(kept, found)
    values = np.array([found.get(name, 0.0) for name in NAMES])
    return MetaFeatures(values, np.array([name in found for name in NAMES]))


def default_cache() -> Path:
    """Where measured data sets are kept between programs."""
    from nas_system.data.source import default_cache_dir

    return default_cache_dir() / "meta_features"


def fingerprint(parameters: np.ndarray, target: np.ndarray) -> str:
    """The data set's name in the cache: SHA-256 of what it holds and of how it is measured."""
    import numpy as np

    digest = hashlib.sha256(f"{VERSION} {parameters.shape} {parameters.dtype} {target.dtype}".encode())
    digest.update(np.ascontiguousarray(parameters).tobytes())
    # Text has no fixed width in memory.
    labels = target if target.dtype.kind in "biuf" else np.char.encode(target.astype(str), "utf-8")
    digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()


def classes(target: np.ndarray) -> np.ndarray:
    """Class numbers: the values themselves if there are at most five, else fifths of the sorted target."""
    import numpy as np

    values, numbers = np.unique(target, return_inverse=True)
    if len(values) < 2:
        raise ConfigError("the target has one value only: there is nothing to tell apart")
    if len(values) <= CLASSES or target.dtype.kind not in "iuf":
        return numbers
    inner = np.quantile(target, np.arange(1, CLASSES) / CLASSES)
    cut = np.searchsorted(inner, target, side="right")
    # Where one value fills several fifths some are empty; the others are numbered without gaps.
    cut = np.unique(cut, return_inverse=True)[1]
    return cut if cut.any() else (target > target.min()).astype(int)


def _table(parameters: Any) -> np.ndarray:
    import numpy as np

    try:
        x = np.asarray(parameters, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"parameters must be a table of numbers: {error}") from None
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.size:
        raise ConfigError(f"parameters has the shape {x.shape}; (rows, columns) is needed")
    if not np.isfinite(x).all():
        raise ConfigError("parameters has values that are missing or infinite; fill or drop them first")
    return x


def _spread(length: int, limit: int) -> np.ndarray:
    """Positions of at most `limit` out of `length`, evenly spread, the first among them."""
    import numpy as np

    return np.arange(min(length, limit)) * length // min(length, limit)


def _measure(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The values that are finite, by name."""
    import numpy as np

    from nas_system.training.extras import import_extra

    extractor = import_extra("pymfe.mfe", "netformer").MFE
    # pymfe seeds numpy's global numbers; nobody else's must change by that.
    outside = np.random.get_state()
    try:
        # What it warns about is what cannot be known of this data set, and is marked as such.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            # groups="all": by default f1 and f2 are unknown names, and left out.
            measure = extractor(groups="all", features=list(FEATURES), summary=("mean", "sd"), random_state=0)
            names, values = measure.fit(x, y).extract()
    finally:
        np.random.set_state(outside)
    return {name: float(value) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def _read(path: Path) -> dict[str, float] | None:
    from nas_system.files import read_record

    found = read_record(path)  # None for a truncated file: its series is measured again
    return found if found is not None and found.keys() <= set(NAMES) else None


def _write(path: Path, found: dict[str, float]) -> None:
    from nas_system.files import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
