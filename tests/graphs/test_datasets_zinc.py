"""ZINC from its real file formats, written here in small, and what becomes of files that are no data."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_system.errors import ConfigError
from nas_system.graphs import get_dataset
from nas_system.graphs.datasets.safe_pickle import StoredArray, StoredTensor, load_plain_pickle
from nas_system.graphs.pyg import import_pyg
from nas_system.graphs.task_graphs import load_graphs, locate_graphs
from nas_system.space import GraphRegressionTask

PARTS = {"train": [2, 0], "val": [1, 2], "test": [0, 1, 2]}
TRIANGLE = ([0, 5, 27], [(0, 1, 1), (1, 2, 2), (0, 2, 3)], -0.25)
CHAIN = ([0, 0], [(0, 1, 1)], 1.5)
ATOM = ([3], [], 2.0)

Convert = Callable[[Any], Any]


def record(atoms: list[int], bonds: list[tuple[int, int, int]], target: float, convert: Convert) -> dict:
    matrix = np.zeros((len(atoms), len(atoms)), dtype=np.int8)
    for i, j, kind in bonds:
        matrix[i, j] = matrix[j, i] = kind
    return {
        "num_atom": len(atoms),
        "atom_type": convert(np.array(atoms, dtype=np.int8)),
        "bond_type": convert(matrix),
        "logP_SA_cycle_normalized": convert(np.array([target], dtype=np.float32)),
    }


def write_raw(folder: Path, convert: Convert = torch.from_numpy, protocol: int = 2) -> None:
    folder.mkdir(parents=True)
    for part, numbers in PARTS.items():
        records = [record(*molecule, convert) for molecule in (TRIANGLE, CHAIN, ATOM)]
        (folder / f"{part}.pickle").write_bytes(pickle.dumps(records, protocol=protocol))
        (folder / f"{part}.index").write_text(",".join(map(str, numbers)) + "\n")


def check(dataset) -> None:
    assert (dataset.num_features, dataset.num_classes, dataset.num_edge_types) == (28, 1, 4)
    assert dataset.task_type == "regression"
    train, val, test = dataset.get_splits()
    assert [len(part) for part in (train, val, test)] == [2, 2, 3]
    triangle = train[1]
    assert triangle.x.tolist() == [[0], [5], [27]]
    assert triangle.edge_index.tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert triangle.edge_attr.tolist() == [1, 3, 1, 2, 3, 2]
    assert triangle.y.tolist() == [-0.25]
    assert triangle.y.dtype == torch.float32
    assert val[0].edge_attr.tolist() == [1, 1]
    assert train[0].num_nodes == 1
    assert train[0].edge_index.shape == (2, 0)
    batch = next(iter(import_pyg("torch_geometric.loader").DataLoader(test, batch_size=3)))
    assert batch.y.tolist() == [-0.25, 1.5, 2.0]
    assert batch.edge_index.max() == 4


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("convert", [torch.from_numpy, np.asarray], ids=["tensors", "arrays"])
@pytest.mark.parametrize("place", ["raw", "molecules", "ZINC/raw", "zinc/molecules"])
def test_the_authors_files_are_read(tmp_path: Path, place: str, convert: Convert, protocol: int) -> None:
    write_raw(tmp_path / place, convert, protocol)
    check(get_dataset(name="zinc", root=tmp_path))


def test_what_pyg_makes_of_them_is_the_same(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    zinc = import_pyg("torch_geometric.datasets").ZINC
    theirs = [zinc(str(tmp_path), subset=True, split=part) for part in PARTS]
    shutil.rmtree(tmp_path / "raw")  # what is left are the tensors that PyG has written
    dataset = get_dataset("zinc", root=tmp_path)
    check(dataset)
    for ours, their in zip(dataset.get_splits(), theirs, strict=True):
        for graph, expected in zip(ours, their, strict=True):
            assert sorted(graph.keys()) == sorted(expected.keys())
            for key in expected.keys():  # noqa: SIM118
                assert torch.equal(graph[key], expected[key])
                assert graph[key].dtype == expected[key].dtype


def test_missing_files_are_named_with_the_places_and_the_way_out(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    (tmp_path / "raw" / "val.index").unlink()
    with pytest.raises(ConfigError) as caught:
        get_dataset("zinc", root=tmp_path)
    said = str(caught.value)
    for name in (
        "train.pickle",
        "val.index",
        "test.pt",
        "zinc_synth",
        str(tmp_path / "raw"),
        "subset/processed",
    ):
        assert name in said
    assert caught.value.exit_code == 2


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_cannot_run_anything(tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    payload = pickle.dumps([{"atom_type": Malicious(trace)}])
    pickle.loads(payload)
    assert trace.exists(), "or this test shows nothing"
    trace.unlink()
    write_raw(tmp_path / "raw")
    (tmp_path / "raw" / "train.pickle").write_bytes(payload)
    with pytest.raises(ConfigError, match=r"train\.pickle cannot be read \(it names pathlib"):
        get_dataset("zinc", root=tmp_path)
    assert not trace.exists()


class StorageOf:
    """What torch writes for a tensor's storage, with other bytes in it."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self):
        return (torch.storage._load_from_bytes, (self.content,))


class TensorOf:
    def __init__(self, content: bytes) -> None:
        self.storage = StorageOf(content)

    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, (self.storage, 0, (1,), (1,), False, {}))


def test_a_pickle_inside_the_pickle_cannot_run_anything_either(tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    inner = tmp_path / "inner.pt"
    torch.save(Malicious(trace), inner)
    record_with_it = record(*CHAIN, torch.from_numpy) | {"atom_type": TensorOf(inner.read_bytes())}
    write_raw(tmp_path / "raw")
    (tmp_path / "raw" / "train.pickle").write_bytes(pickle.dumps([record_with_it] * 3, protocol=2))
    with pytest.raises(ConfigError, match=r"train\.pickle: molecule 2 cannot be read"):
        get_dataset("zinc", root=tmp_path)
    assert not trace.exists()


def test_processed_files_cannot_run_anything(tmp_path: Path) -> None:
    folder = tmp_path / "subset" / "processed"
    folder.mkdir(parents=True)
    for part in PARTS:
        torch.save(({"x": Malicious(tmp_path / "was here")}, {}, None), folder / f"{part}.pt")
    with pytest.raises(ConfigError, match=r"train\.pt cannot be read"):
        get_dataset("zinc", root=tmp_path)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train.pickle", b"", r"train\.pickle cannot be read"),
        ("val.pickle", pickle.dumps([1, 2, 3])[:-4], r"val\.pickle cannot be read"),
        ("val.pickle", pickle.dumps([1, 2, 3]), r"val\.pickle: molecule 1 cannot be read"),
        ("val.pickle", pickle.dumps([]), r"val\.pickle: molecule 1 cannot be read"),
        ("test.index", b"0,1,zwei", r"test\.index is no list of numbers"),
        ("val.pickle", pickle.dumps([record([0, 28], [(0, 1, 1)], 0.0, torch.from_numpy)] * 3), "atom types"),
        ("val.pickle", pickle.dumps([record([0, 1], [(0, 1, 4)], 0.0, torch.from_numpy)] * 3), "bond types"),
    ],
)
def test_damaged_and_foreign_files_are_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    write_raw(tmp_path / "raw")
    (tmp_path / "raw" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        get_dataset("zinc", root=tmp_path)


def test_bonds_to_atoms_that_a_molecule_has_not_are_named(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    cut = record(*TRIANGLE, torch.from_numpy) | {"atom_type": torch.zeros(2, dtype=torch.int8)}
    (tmp_path / "raw" / "val.pickle").write_bytes(pickle.dumps([cut] * 3, protocol=2))
    told = r"molecule 1 cannot be read \(.*its atoms are 0 to 1, but there is a bond to 2"
    with pytest.raises(ConfigError, match=rf"val\.pickle: {told}"):
        get_dataset("zinc", root=tmp_path)
    shutil.rmtree(tmp_path / "raw")
    folder = tmp_path / "subset" / "processed"
    folder.mkdir(parents=True)
    values = {
        "x": torch.zeros(4, 1, dtype=torch.long),
        "edge_index": torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]]),
        "edge_attr": torch.ones(4, dtype=torch.long),
        "y": torch.zeros(2),
    }
    borders = {"x": [0, 2, 4], "edge_index": [0, 2, 4], "edge_attr": [0, 2, 4], "y": [0, 1, 2]}
    slices = {name: torch.tensor(ends) for name, ends in borders.items()}
    for part in PARTS:
        torch.save((values, slices, None), folder / f"{part}.pt")
    with pytest.raises(ConfigError, match=rf"train\.pt: {told}"):
        get_dataset("zinc", root=tmp_path)


def test_a_negative_number_in_the_index_is_no_molecule(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    (tmp_path / "raw" / "val.index").write_text("-1\n")
    with pytest.raises(ConfigError, match=r"val\.pickle: molecule -1 cannot be read"):
        get_dataset("zinc", root=tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_numbers_survive_the_safe_reading(tmp_path: Path, protocol: int) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    values: dict[str, Any] = {
        "strided": base.t()[1:5:2, ::3],
        "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "scalar": np.float64(1.25),
        "plain": [1, "a", None, (2.5, {3: 4})],
    }
    path = tmp_path / "values.pickle"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    found = load_plain_pickle(path)
    for name, value in values.items():
        read = found[name]
        if isinstance(read, StoredTensor | StoredArray):
            read = read.load()
        same = (
            value
            if not isinstance(value, np.ndarray)
            else torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
        )
        assert torch.equal(read, same) if isinstance(same, torch.Tensor) else read == same, name


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    storage = pickle.dumps(torch.zeros(2), protocol=2)
    path = tmp_path / "values.pickle"
    path.write_bytes(storage)
    stored = load_plain_pickle(path)
    with pytest.raises(RuntimeError):
        StoredTensor(stored.storage, 0, (10**6,), (1,)).load()


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "values.pickle"
    path.write_bytes(pickle.dumps(np.array([None, "a"], dtype=object)))
    with pytest.raises(pickle.UnpicklingError, match="no type of numbers"):
        load_plain_pickle(path).load()


def test_zinc_with_its_files_is_a_task_and_is_missed_when_they_change(tmp_path: Path) -> None:
    write_raw(tmp_path / "ZINC" / "raw")
    task = GraphRegressionTask(name="zinc", test_graphs=2)
    source = locate_graphs(task, tmp_path)
    assert (source.kind, source.path) == ("file", tmp_path / "ZINC" / "raw")
    graphs = load_graphs(source, task)
    assert [len(part) for part in graphs.get_splits()] == [2, 2, 2]
    with pytest.raises(ConfigError, match="train_graphs=9, but zinc has 2"):
        load_graphs(source, GraphRegressionTask(name="zinc", train_graphs=9))
    (tmp_path / "ZINC" / "raw" / "train.index").write_text("0,1\n")
    with pytest.raises(ConfigError, match="have changed"):
        load_graphs(source, task)
    (tmp_path / "ZINC" / "raw" / "train.index").unlink()
    with pytest.raises(ConfigError, match="not there any more"):
        load_graphs(source, task)
