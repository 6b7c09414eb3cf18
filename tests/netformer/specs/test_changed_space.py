"""The shipped networks on a search space that has changed since they were trained."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_system.netformer.specs.archive.library import MODEL_FILE, SHIPPED
from nas_system.space import families_of

MODULE = "nas_system.netformer"

IMPORTS = """
from typing import Annotated, ClassVar, Literal
from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Choice, Range
"""

ABACUS = """
class AbacusConfig(NetworkConfig):
    family: Literal["abacus"] = "abacus"
    beads: Annotated[int, Range(1, 64, grid=(8, 16))] = 8

class GraphAbacusConfig(AbacusConfig):
    tasks: ClassVar[tuple[str, ...]] = ("graph_regression",)
    family: Literal["graph_abacus"] = "graph_abacus"

FAMILIES |= {"abacus": AbacusConfig, "graph_abacus": GraphAbacusConfig}
"""

OTHER_FIELDS = """
class WiderLinear(LinearConfig):
    bells: Annotated[bool, Choice()] = True

class SmallerGRU(GRUConfig):
    hidden_size: Annotated[int, Range(2, 40, grid=(8, 16))] = 10
    normalization: Annotated[Literal["none", "revin", "robust"], Choice()] = "robust"

class DivisibleLSTM(LSTMConfig):
    hidden_size: Annotated[int, Range(32, 1024, multiple_of=32)] = 32
    segment_len: Annotated[Literal[4, 24], Choice()] = 4

FAMILIES |= {"linear": WiderLinear, "gru": SmallerGRU, "lstm": DivisibleLSTM}
del FAMILIES["tcn"]
"""

ONLY_ABACUS = """
FAMILIES = {"abacus": AbacusConfig, "graph_abacus": GraphAbacusConfig}
"""

ONLY_FAR_SIGHTED = """
class FarSightedLinear(LinearConfig):
    def check_window(self, seq_len: int, pred_len: int) -> None:
        if pred_len < 10:
            raise ValueError("the horizon is too short")

FAMILIES = {"linear": FarSightedLinear}
"""

Propose = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def propose(facts: Path, project_root: Path, run_cli: Any, tmp_path: Path) -> Propose:
    """Run `propose` in a copy of the package whose registry of families ends with the given lines."""

    def run(*changes: str, flags: tuple[str | Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        shutil.copytree(project_root / "nas_system", tmp_path / "nas_system")
        with (tmp_path / "nas_system" / "space" / "families" / "__init__.py").open("a") as registry:
            registry.write("".join((IMPORTS, *changes)))
        flags = flags or ("--facts", facts, "--count", "40")
        # No network of the user's own: the shipped one is meant.
        env = {"PYTHONPATH": str(tmp_path), "NAS_ARCHIVE_DIR": str(tmp_path / "own")}
        return run_cli(MODULE, "propose", *flags, cwd=tmp_path, env=env, timeout_s=180)

    return run


@pytest.fixture(scope="module")
def unchanged(facts: Path, run_cli: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the shipped networks propose on the search space as it is."""
    folder = tmp_path_factory.mktemp("unchanged")
    env = {"NAS_ARCHIVE_DIR": str(folder)}
    done = run_cli(MODULE, "propose", "--facts", facts, "--count", "40", cwd=folder, env=env, timeout_s=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["proposals"]


def test_new_families_change_nothing_and_are_named(propose: Propose, unchanged: list) -> None:
    done = propose(ABACUS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["proposals"] == unchanged
    assert (
        "model does not know them: ridge, nhits, tide, abacus\n" in done.stderr
        and "graph_abacus" not in done.stderr
    )


def test_only_what_is_left_of_a_family_is_written(propose: Propose, unchanged: list) -> None:
    done = propose(OTHER_FIELDS)
    assert done.returncode == 0, done.stderr
    models = [entry["config"]["model"] for entry in json.loads(done.stdout)["proposals"]]
    of_family = {name: [m for m in models if m["family"] == name] for name in families_of("forecasting")}
    assert len(models) == 40 and not of_family["tcn"]
    assert of_family["linear"] and all(model["bells"] is True for model in of_family["linear"])
    for model in of_family["gru"]:
        assert model["hidden_size"] <= 40 and model["normalization"] in ("none", "revin")
    for model in of_family["lstm"]:
        assert model["hidden_size"] % 32 == 0 and model["segment_len"] in (4, 24)
    assert of_family["gru"] and of_family["lstm"]
    # Such values were proposed before, so their absence is no accident.
    before = [entry["config"]["model"] for entry in unchanged]
    assert any(m["family"] in ("gru", "lstm") and m["normalization"] == "last" for m in before)


@pytest.mark.parametrize("flags", [(), ("--check",)], ids=["propose", "check"])
def test_a_space_without_any_known_family_is_refused(propose: Propose, flags: tuple[str, ...]) -> None:
    done = propose(ABACUS, ONLY_ABACUS, flags=flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no family it knows (informer, linear, " in done.stderr
    assert "python -m nas_system.netformer fit" in done.stderr and done.stderr.count("\n") == 1


def test_families_that_never_fit_the_task_are_refused(propose: Propose) -> None:
    done = propose(ONLY_FAR_SIGHTED)
    assert done.returncode == 2 and "fits this task" in done.stderr, done.stderr


def test_networks_saved_without_their_space_are_read_if_it_is_the_shipped_one(
    facts: Path, run_cli: Any, tmp_path: Path, unchanged: list
) -> None:
    content = torch.load(SHIPPED / MODEL_FILE, weights_only=True)
    old = {key: value for key, value in content.items() if key not in ("vocabulary", "features_version")}
    torch.save(old, tmp_path / "old.weights")
    torch.save(old | {"space": "0123456789abcdef"}, tmp_path / "foreign.weights")
    flags = ("--facts", facts, "--count", "40", "--model")
    done = run_cli(MODULE, "propose", *flags, "old.weights", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["proposals"] == unchanged
    done = run_cli(MODULE, "propose", *flags, "foreign.weights", cwd=tmp_path)
    assert done.returncode == 2 and "python -m nas_system.netformer fit" in done.stderr


def test_networks_that_know_tasks_by_other_numbers_are_refused(run_cli: Any, tmp_path: Path) -> None:
    content = torch.load(SHIPPED / MODEL_FILE, weights_only=True)
    torch.save(content | {"features_version": 0}, tmp_path / "old.weights")
    done = run_cli(MODULE, "propose", "--check", "--model", "old.weights", cwd=tmp_path)
    assert done.returncode == 2 and "python -m nas_system.netformer fit" in done.stderr
