"""ZINC: 12,000 molecules and their penalised logP, if its files are there. Nothing is downloaded.

Irwin et al. 2012, "ZINC: a free tool to discover chemistry for biology"; the subset and its split are those
of Dwivedi et al. 2020, "Benchmarking Graph Neural Networks", arXiv:2003.00982. Reads the files that
`torch_geometric.datasets.ZINC(root, subset=True)` reads or writes: the authors' pickles with the list
of the subset, or the tensors made of them. Neither runs code from a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.graphs.datasets.dataset import GraphDataset
from nas_system.graphs.datasets.safe_pickle import DAMAGED, StoredArray, StoredTensor, load_plain_pickle
from nas_system.graphs.pyg import import_pyg

PARTS = ("train", "val", "test")
RAW_FILES = tuple(f"{part}.{kind}" for part in PARTS for kind in ("pickle", "index"))
PROCESSED_FILES = tuple(f"{part}.pt" for part in PARTS)
ROOTS = (".", "ZINC", "zinc")
"""Where in the root: it may be that of ZINC alone, or of many data sets."""
PROCESSED_FOLDER = "subset/processed"
RAW_FOLDERS = ("raw", "molecules")

ATOM_TYPES = 28
BOND_TYPES = 4
"""Numbers 1 to 3; 0 would be no bond."""


def zinc(root: str | Path = "data/") -> GraphDataset:
    """Return the subset. Raises ConfigError for files that are missing, damaged or hold something else."""
    return read_zinc(*find_zinc(Path(root)))


def read_zinc(folder: Path, files: Sequence[str]) -> GraphDataset:
    """Read the subset from these files. Raises ConfigError for files that are damaged or foreign."""
    read = _read_processed if tuple(files) == PROCESSED_FILES else _read_raw
    train, val, test = (read(folder, part) for part in PARTS)
    return GraphDataset("zinc", "regression", train, val, test, ATOM_TYPES, 1, BOND_TYPES)


def find_zinc(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder under `root` with ZINC's files, and their names. Raises ConfigError."""
    processed = [(root / place / PROCESSED_FOLDER, PROCESSED_FILES) for place in ROOTS]
    raw = [(root / place / name, RAW_FILES) for place in ROOTS for name in RAW_FOLDERS]
    for folder, files in processed + raw:
        if all((folder / name).is_file() for name in files):
            return folder, files
    raise ConfigError(
        f"the files of ZINC are not in {root}. Looked for {', '.join(RAW_FILES)} in "
        f"{', '.join(str(folder) for folder, _ in raw)}; and for {', '.join(PROCESSED_FILES)} in "
        f"{', '.join(str(folder) for folder, _ in processed)}. "
        f"torch_geometric.datasets.ZINC(root={str(root / 'ZINC')!r}, subset=True) fetches them; "
        "without them, use the generated data set zinc_synth"
    )


def _read_raw(folder: Path, part: str) -> list[Any]:
    path = folder / f"{part}.pickle"
    molecules = load_plain_pickle(path)
    numbers = _read_index(folder / f"{part}.index")
    graphs = []
    for number in numbers:
        try:
            if number < 0:
                raise IndexError(number)
            graphs.append(_from_record(molecules[number]))
        except (*DAMAGED, RuntimeError) as error:
            raise ConfigError(f"{path}: molecule {number} cannot be read ({error!r})") from None
    return graphs


def _read_index(path: Path) -> list[int]:
    try:
        return [int(number) for number in path.read_text(encoding="ascii").split(",")]
    except ValueError as error:
        raise ConfigError(f"{path} is no list of numbers separated by commas ({error})") from None


def _from_record(record: Mapping[str, Any]) -> Any:
    """Read a molecule as its authors wrote it: types of atoms (n,), of bonds (n, n), and the target."""
    atoms, bonds = _tensor(record["atom_type"]).long(), _tensor(record["bond_type"]).long()
    edge_index = bonds.nonzero().t().contiguous()
    edge_attr = bonds[edge_index[0], edge_index[1]]
    return _graph(atoms.reshape(-1, 1), edge_index, edge_attr, _tensor(record["logP_SA_cycle_normalized"]))


def _tensor(value: Any) -> Tensor:
    return value.load() if isinstance(value, StoredTensor | StoredArray) else torch.as_tensor(value)


def _read_processed(folder: Path, part: str) -> list[Any]:
    path = folder / f"{part}.pt"
    data = import_pyg("torch_geometric.data").Data
    try:
        with torch.serialization.safe_globals([data]):
            values, slices, *_ = torch.load(path, map_location="cpu", weights_only=True)
        count = len(slices["y"]) - 1
    except (*DAMAGED, RuntimeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); create it again, or remove it") from None
    graphs = []
    for number in range(count):
        try:
            parts = {name: _slice(values[name], slices[name], number, name) for name in _FIELDS}
            graphs.append(_graph(**parts))
        except (*DAMAGED, RuntimeError) as error:
            raise ConfigError(
                f"{path}: molecule {number} cannot be read ({error}); create the file again, or remove it"
            ) from None
    return graphs


_FIELDS = ("x", "edge_index", "edge_attr", "y")


def _slice(values: Tensor, borders: Sequence[int], number: int, name: str) -> Tensor:
    """Return the part of one graph in concatenated tensors; edges along their second axis."""
    start, end = int(borders[number]), int(borders[number + 1])
    return values.narrow(1 if name == "edge_index" else 0, start, end - start).clone()


def _graph(x: Tensor, edge_index: Tensor, edge_attr: Tensor, y: Tensor) -> Any:
    if not 0 <= int(x.min()) <= int(x.max()) < ATOM_TYPES:
        raise ValueError(f"atom types are 0 to {ATOM_TYPES - 1}, but there is {int(x.max())}")
    if edge_attr.numel() and not 0 <= int(edge_attr.min()) <= int(edge_attr.max()) < BOND_TYPES:
        raise ValueError(f"bond types are 0 to {BOND_TYPES - 1}, but there is {int(edge_attr.max())}")
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < len(x):
        raise ValueError(f"its atoms are 0 to {len(x) - 1}, but there is a bond to {int(edge_index.max())}")
    data = import_pyg("torch_geometric.data").Data
    return data(x=x, edge_index=edge_index, edge_attr=edge_attr, y=y.float().reshape(1))
