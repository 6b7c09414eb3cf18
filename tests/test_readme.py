"""The README tells the truth: its picture is drawn by the code, its tree is there, its commands work."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nas_agent_graph.cli import COMMANDS
from nas_agent_graph.graph import build_graph
from nas_agent_graph.settings import llm_settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("nas_*/**/README.md")]
)
WITH_COMMANDS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/library.md",
    "docs/llm.md",
    "docs/proposers.md",
    "docs/ray.md",
    "docs/slurm.md",
    "nas_system/README.md",
)


@pytest.fixture(scope="module")
def readme(project_root):
    return (project_root / "README.md").read_text()


def blocks(text, language):
    """The fenced blocks of one language, in order."""
    found, open_block = [], None
    for line in text.splitlines():
        if not line.startswith("```"):
            if open_block is not None:
                open_block[1].append(line)
        elif open_block is None:
            open_block = (line[3:], [])
        else:
            if open_block[0] == language:
                found.append("\n".join(open_block[1]) + "\n")
            open_block = None
    return found


def test_the_graph_picture_is_the_one_the_code_draws(readme):
    (picture,) = blocks(readme, "mermaid")
    assert picture.strip() == build_graph().get_graph().draw_mermaid().strip()


def test_every_path_of_the_tree_exists_and_every_package_is_in_it(readme, project_root):
    (tree,) = (block for block in blocks(readme, "") if block.startswith("nas_agent_graph/"))
    folder, found = project_root, set()
    for line in tree.splitlines():
        paths = list(itertools.takewhile(lambda word: word.endswith((".py", "/")), line.split()))
        if not line.startswith(" "):
            folder = project_root
        for name in paths:
            assert (folder / name).exists(), f"{folder.name}/{name} stands in the README and nowhere else"
            found.add(folder / name.rstrip("/"))
        if not line.startswith(" "):
            folder = project_root / paths[0]
    for package in ("nas_agent_graph", "nas_system"):
        for init in (project_root / package).glob("*/__init__.py"):
            assert init.parent in found, f"{init.parent.name} is missing in the README's tree"


def demand_flags(project_root, words):
    """The command is there, and so is every flag that is given to it."""
    command = [sys.executable, "-m", "nas_system.netformer", words[0], "--help"]
    told = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=True, timeout=240)
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", told.stdout))


def command_in(words):
    """The command that a line starts, in any of its spellings, and its arguments."""
    if words[:1] == ["nas"]:
        return words[1], words[2:]
    if words[:2] == ["python", "train.py"]:
        return "train", words[2:]
    if words[:2] == ["python", "-m"]:
        package, _, name = words[2].rpartition(".")
        assert COMMANDS[name].entry.startswith(f"{package}."), f"{words[2]} is no module that people start"
        return name, words[3:]
    return None


@pytest.mark.parametrize("place", PAGES)
def test_every_command_is_one_that_the_programs_understand(project_root, place):
    checked = 0
    for block in blocks((project_root / place).read_text(), "bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:3] == ["python", "-m", "nas_system.netformer"]:
                demand_flags(project_root, words[3:])
                checked += 1
            elif (started := command_in(words)) is not None:
                name, arguments = started
                arguments = [word for word in arguments if word != "--help"]
                COMMANDS[name].parser("nas").parse_args(arguments)
                checked += 1
            elif words[:1] == ["python"] and words[1].endswith(".py"):
                assert (project_root / words[1]).is_file()
            elif words[:1] == ["make"]:
                subprocess.run(
                    ["make", "--dry-run", *words[1:]], cwd=project_root, check=True, capture_output=True
                )
                checked += 1
    assert checked or place not in WITH_COMMANDS


@pytest.mark.parametrize("place", PAGES)
def test_every_link_and_picture_of_a_page_is_there(project_root, place):
    page = project_root / place
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{place} links to {target}"


def test_pictures_are_small(project_root):
    pictures = list((project_root / "docs" / "images").glob("*.png"))
    assert len(pictures) >= 2
    assert all(picture.stat().st_size < 250_000 for picture in pictures)


def test_every_variable_of_the_settings_table_is_read(readme):
    named = set(re.findall(r"`((?:NAS_LLM|OPENAI)_[A-Z_]+)`", readme))
    read = set()

    class Watched(dict):
        def get(self, name, default=None):
            read.add(name)
            return super().get(name, default)

        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    url = "http://localhost/v1"
    llm_settings(Watched(OPENAI_MODEL="m", OPENAI_BASE_URL=url, OPENAI_API_KEY="k"), demanded=True)
    assert named == read


def test_every_package_has_a_readme_of_one_screen(project_root):
    packages = [
        path.parent for path in project_root.glob("nas_*/**/__init__.py") if "nodes" not in path.parts
    ]
    for package in packages:
        # A package within a package may be described by the one around it.
        places = {package, package.parent, package.parent.parent} - {project_root}
        assert any((place / "README.md").exists() for place in places), f"{package} has no README"
