"""The 23 features of a data set: which there are, what they are of, and what must not go wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from python_server import run_python

from nas_system.errors import ConfigError
from nas_system.netformer import get_meta_features
from nas_system.netformer.meta_features import FEATURES, MAX_COLUMNS, MAX_ROWS, NAMES, classes, default_cache


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    return x, np.sin(x[:, 0]) + x[:, 1] * x[:, 2]


pymfe = pytest.importorskip("pymfe", reason="needs the extra netformer")


def test_all_features_are_there_for_a_continuous_target(data: tuple[np.ndarray, np.ndarray]) -> None:
    """f1 and f2 are dropped without groups="all", and those of trees and classes without classes."""
    found = get_meta_features(*data)
    assert found.names == NAMES
    assert found.values.shape == found.known.shape == (37,)
    assert {name.partition(".")[0] for name in NAMES} == set(FEATURES)
    assert len(FEATURES) == len(set(FEATURES)) == 23
    assert found.known.all(), [name for name, known in zip(NAMES, found.known, strict=True) if not known]
    values = found.as_dict()
    for name in ("f1.mean", "f2.mean", "tree_depth.mean", "leaves_branch.mean", "nodes_per_attr"):
        assert values[name] > 0, name


def test_features_are_what_their_names_say(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    values = get_meta_features(x, y).as_dict()
    assert values["nr_attr"] == 3
    assert values["inst_to_attr"] == 40
    assert values["attr_to_inst"] == pytest.approx(3 / 120)
    assert values["nr_class"] == 5
    assert values["class_ent"] == pytest.approx(np.log2(5))
    pairs = np.abs(np.corrcoef(x.T)[np.triu_indices(3, 1)])
    assert values["cor.mean"] == pytest.approx(pairs.mean())
    # Noise to signal: what the columns say beyond what they say about the class.
    noise = (values["attr_ent.mean"] - values["mut_inf.mean"]) / values["mut_inf.mean"]
    assert values["ns_ratio"] == pytest.approx(noise)


def test_what_is_undefined_is_zero_and_marked(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    found = get_meta_features(x[:, :1], y)
    unknown = {name for name, known in zip(NAMES, found.known, strict=True) if not known}
    assert "cor.mean" in unknown
    assert not found.values[~found.known].any()
    assert np.isfinite(found.values).all()
    assert found.names == NAMES
    assert unknown.isdisjoint(found.as_dict())


def test_classes_are_fifths_of_a_continuous_target() -> None:
    target = np.random.default_rng(1).normal(size=500)
    numbers = classes(target)
    assert np.bincount(numbers).tolist() == [100] * 5
    assert all(target[numbers == low].max() < target[numbers == low + 1].min() for low in range(4))
    assert classes(np.array([3, 3, 7, 9] * 5)).tolist() == [0, 0, 1, 2] * 5
    assert classes(np.array(["b", "a"])).tolist() == [1, 0]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_target_that_is_mostly_one_value_still_has_classes(share: float) -> None:
    target = np.where(np.arange(1000) < share * 1000, 0.0, np.arange(1000.0))
    for sign in (1, -1):
        numbers = classes(sign * target)
        assert set(numbers) == set(range(max(numbers) + 1))
        assert max(numbers) >= 1


def test_large_data_is_cut_down_before_it_is_measured() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 40))
    values = get_meta_features(x, x[:, 0]).as_dict()
    assert values["nr_attr"] == MAX_COLUMNS == 20
    assert values["inst_to_attr"] == MAX_ROWS / MAX_COLUMNS


def test_the_same_data_gives_the_same_values_and_leaves_random_numbers_alone(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    np.random.seed(7)
    expected = np.random.random(3)
    np.random.seed(7)
    first = get_meta_features(*data)
    assert np.random.random(3).tolist() == expected.tolist()
    assert get_meta_features(*data).values.tolist() == first.values.tolist()


def test_data_is_measured_once(data: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    x, y = data
    first = get_meta_features(x, y, cache_dir=tmp_path)
    (kept,) = tmp_path.iterdir()
    # What is read is what is in the file, so nothing was measured.
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"gravity": 42.0}))
    again = get_meta_features(x.copy(), y.copy(), cache_dir=tmp_path)
    assert again.as_dict() == first.as_dict() | {"gravity": 42.0}
    other = get_meta_features(x + 1e-12, y, cache_dir=tmp_path)
    assert other.as_dict()["gravity"] != 42.0
    assert len(list(tmp_path.iterdir())) == 2
    kept.write_text('{"gravi')
    assert get_meta_features(x, y, cache_dir=tmp_path).as_dict() == first.as_dict()


def test_the_cache_is_where_the_project_keeps_its_data() -> None:
    assert default_cache().name == "meta_features"
    assert default_cache().parent.name == "nas_system"


@pytest.mark.parametrize(
    ("x", "y", "complaint"),
    [
        (np.zeros((20, 2)), np.zeros(19), "20 rows, but target has 19"),
        (np.zeros((5, 2)), np.arange(5), "too few"),
        (np.zeros((20, 2)), np.zeros(20), "one value only"),
        (np.full((20, 2), np.nan), np.arange(20), "missing or infinite"),
        (np.zeros((20, 2)), np.full(20, np.inf), "missing or infinite"),
        (np.zeros((20, 2, 2)), np.arange(20), r"shape \(20, 2, 2\)"),
        ([["a"], ["b"]], [1, 2], "a table of numbers"),
    ],
)
def test_what_cannot_be_described_is_refused(x: object, y: object, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        get_meta_features(x, y)


IMPORT = """
import sys
sys.modules["pymfe"] = None  # as if it were not installed
{code}
print("pymfe.mfe" in sys.modules)
"""


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": str(root), "PATH": "", "OMP_NUM_THREADS": "1"}
    return run_python(["-c", IMPORT.format(code=code)], cwd=cwd, env=environment)


def test_nothing_needs_pymfe_before_a_value_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import nas_agent_graph.run, nas_agent_graph.graph, nas_agent_graph.proposers\n"
        "import nas_system.model, nas_system.train, nas_system.sequential.informer\n"
        "import nas_system.netformer.weights.zoo.zoo_building\n"
        "import nas_system.netformer.weights.model.writer_fitting"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


def test_without_pymfe_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    code = "import numpy as np\nfrom nas_system.netformer import get_meta_features\n"
    done = python(code + "get_meta_features(np.eye(20), np.arange(20))", tmp_path)
    assert done.returncode == 1
    assert "ConfigError" in done.stderr and "pip install 'nas-agent[netformer]'" in done.stderr
