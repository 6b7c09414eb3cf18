"""What people install: the wheel, the declared needs, the pinned versions, the Makefile's first step."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PACKAGES = ("nas_agent_graph", "nas_system")


@pytest.fixture(scope="module")
def project(project_root: Path) -> dict[str, Any]:
    return tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
            str(project_root),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def expected_contents(root: Path) -> Iterator[str]:
    """Every file of the two packages, and the prompts where the installed package looks for them."""
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".tmp":
                yield path.relative_to(root).as_posix()
    for path in (root / "prompts").rglob("*.j2"):
        yield f"nas_agent_graph/{path.relative_to(root).as_posix()}"


def test_the_wheel_holds_both_packages_with_their_data(wheel: Path, project_root: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = set(expected_contents(project_root))
    assert {
        "nas_agent_graph/py.typed",
        "nas_agent_graph/prompts/propose.j2",
        "nas_system/py.typed",
        "nas_system/config.py",
        "nas_system/configs/models/informer_default.yaml",
    } <= expected
    assert expected - held == set()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert [name for name in names if name.endswith((".pyc", ".csv", ".pth", ".tmp", ".env"))] == []
    assert [name for name in names if "/runs/" in name] == []


def test_an_installed_package_finds_its_data_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = (
        "import importlib.resources as resources, nas_agent_graph, nas_system\n"
        "from nas_system.space import FAMILIES, family_default\n"
        "assert all(family_default(name).model.family == name for name in FAMILIES)\n"
        "assert (resources.files('nas_agent_graph') / 'prompts' / 'propose.j2').is_file()\n"
        "print(nas_system.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))


def imported_modules(root: Path, folders: Sequence[str] = PACKAGES) -> set[str]:
    """Top-level names, neither ours nor Python's, that the files in `folders` import directly."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    # Inside its folder, `model` is nas_system/model.py: the original format imports it like that.
    return found - sys.stdlib_module_names - set(PACKAGES) - {"model"}


distribution_names: Callable[[], Mapping[str, list[str]]] = cache(packages_distributions)


def distributions_of(module: str) -> set[str]:
    """Names of the distributions that provide `module`, several of which may share one name; of one that is
    not installed its own."""
    return {canonicalize_name(name) for name in distribution_names().get(module, [module])}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(entry.name): entry for entry in map(Requirement, lines)}


# Come in fitting versions with langgraph, langchain-openai and pydantic, which give out their objects.
IMPLIED = {"langchain-core", "openai", "pydantic-core", "typing-extensions"}


def undeclared(modules: set[str], declared: list[str]) -> set[str]:
    names = set(requirements(declared)) | IMPLIED
    return {module for module in modules if not distributions_of(module) & names}


def test_everything_imported_is_declared(project_root: Path, project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    optional = [line for name, lines in extras.items() if name != "dev" for line in lines]
    assert undeclared(imported_modules(project_root), project["dependencies"] + optional) == set()


def test_everything_around_the_packages_is_declared(project_root: Path, project: dict[str, Any]) -> None:
    declared = project["dependencies"] + [
        line for lines in project["optional-dependencies"].values() for line in lines
    ]
    folders = ["tests", "benchmarks", "scripts"]
    beside = {path.stem for folder in folders for path in (project_root / folder).glob("*.py")}
    # pytest's `pythonpath` in pyproject.toml: its modules and packages may be shared.
    beside |= {"benchmarks", "clusters"}
    for folder in ("faults", "sandbox"):
        beside |= {path.stem for path in (project_root / "tests" / folder).iterdir()}
    assert undeclared(imported_modules(project_root, folders) - beside, declared) == set()


def test_everything_declared_is_imported(project_root: Path, project: dict[str, Any]) -> None:
    imported = {name for module in imported_modules(project_root) for name in distributions_of(module)}
    assert set(requirements(project["dependencies"])) - imported == set()


def pinned_versions(root: Path) -> dict[str, Version]:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_the_tested_versions_satisfy_what_is_declared(project_root: Path, project: dict[str, Any]) -> None:
    pins = pinned_versions(project_root)
    declared = project["dependencies"] + [
        line for lines in project["optional-dependencies"].values() for line in lines
    ]
    for entry in map(Requirement, declared):
        if entry.name != project["name"]:
            assert entry.specifier.contains(pins[canonicalize_name(entry.name)]), (
                f"{entry} in constraints.txt"
            )


def test_no_pin_brings_a_gpu_runtime_in(project_root: Path) -> None:
    assert [
        name for name in pinned_versions(project_root) if name.startswith(("nvidia", "cuda", "triton"))
    ] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_names_the_python_it_needs(project_root: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(project_root / name, tmp_path)
    old = tmp_path / "python2"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 2.7.18; exit 0; fi\nexit 1\n')
    old.chmod(0o755)
    for python, said in ((str(old), "Python 2.7.18"), (str(tmp_path / "nowhere"), "not there")):
        made = subprocess.run(
            ["make", "test", f"PYTHON={python}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert made.returncode != 0
        assert "needs Python 3.11 or later" in made.stderr
        assert said in made.stderr
        assert not (tmp_path / ".venv").exists()
