"""The rules of the architecture that a machine can check."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGES = ("nas_agent_graph", "nas_system")
ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# The counting that `python benchmarks/structure.py` prints.
STRUCTURE = runpy.run_path(str(ROOT / "benchmarks" / "structure.py"))

# Who may import whom: a row for every package, with everything of ours that it may name.
PROGRAMS = ("model", "train", "describe", "predict", "score", "training_job")
GROUND = ("errors", "files", "processes", "space", "config_io", "command_line")
MAY_IMPORT = {
    "nas_system.errors": (),
    "nas_system.files": (),
    "nas_system.processes": ("errors", "files"),
    "nas_system.space": ("errors",),
    "nas_system.config_io": ("errors", "files", "processes", "space"),
    "nas_system.command_line": ("errors", "files", "processes", "space"),
    "nas_system.nas_agent": GROUND,
    "nas_system.training": GROUND,
    "nas_system.data": GROUND,
    "nas_system.sequential": (*GROUND, "training", "data"),
    "nas_system.graphs": (*GROUND, "training", "data"),
    "nas_system.netformer": (*GROUND, "training", "data", "nas_agent"),
    "nas_system.visualization": ("errors", "processes", "space", "config_io", "command_line", "nas_agent"),
    "nas_system.integrations": ("processes", "space", "config_io", "command_line", "training"),
    "nas_system.toolkit": (*GROUND, "training", "data", "sequential", "graphs"),
}
NAS_SYSTEM = (*(name.removeprefix("nas_system.") for name in MAY_IMPORT), *PROGRAMS)
AGENT_MAY_IMPORT = (*GROUND, "nas_agent", "visualization")
AGENT = (
    "run",
    "cli",
    "analysis",
    "host",
    "progress",
    "replay",
    "report",
    "show",
    "space",
    "text",
    "graph",
    "routes",
    "settings",
    "state",
    "context",
    "acceptance",
    "nodes",
    "proposers",
    "llm",
    "launchers",
    "selection",
)
NODE_MAY_IMPORT = ("state", "context", "acceptance", "analysis")
NODE_MAY_IMPORT_OF_NAS_SYSTEM = ("errors", "files", "processes", "space", "config_io", "nas_agent")
ImportPair = tuple[str, str]


# --- imports --------------------------------------------------------------------------------


def lint_imports(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `config` over the two packages in `folder`."""
    command = "from importlinter.cli import lint_imports_command as command; command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--config", str(config), "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_every_import_keeps_the_contracts(project_root: Path) -> None:
    checked = lint_imports(project_root, project_root / "pyproject.toml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def allowed_and_forbidden_imports() -> tuple[set[ImportPair], set[ImportPair]]:
    """Every import between two packages of ours, sorted by the tables above; and the outside ones."""
    allowed: set[ImportPair] = set()
    forbidden: set[ImportPair] = set()

    def sort(importer: str, imported: str, may: bool) -> None:
        (allowed if may else forbidden).add((importer, imported))

    for importer, names in MAY_IMPORT.items():
        for name in NAS_SYSTEM:
            if f"nas_system.{name}" != importer:
                sort(importer, f"nas_system.{name}", name in names)
        sort(importer, "nas_agent_graph.state", False)
        sort(importer, "langgraph", False)
        sort(importer, "openai", False)
    for program in PROGRAMS:
        for name in NAS_SYSTEM:
            if name != program:
                sort(f"nas_system.{program}", f"nas_system.{name}", True)
        sort(f"nas_system.{program}", "nas_agent_graph.state", False)
    for torch_free in (*GROUND, "nas_agent", "visualization"):
        sort(f"nas_system.{torch_free}", "torch", False)

    for importer in AGENT:
        if importer == "nodes":
            continue
        for name in NAS_SYSTEM:
            may = name in AGENT_MAY_IMPORT and importer != "selection"
            sort(f"nas_agent_graph.{importer}", f"nas_system.{name}", may)
        sort(f"nas_agent_graph.{importer}", "torch", False)
        for sdk in ("openai", "langchain_openai"):
            sort(f"nas_agent_graph.{importer}", sdk, importer == "llm")
        sort(f"nas_agent_graph.{importer}", "subprocess", importer == "launchers")

    for name in NAS_SYSTEM:
        sort("nas_agent_graph.nodes", f"nas_system.{name}", name in NODE_MAY_IMPORT_OF_NAS_SYSTEM)
    for name in AGENT:
        if name != "nodes":
            sort("nas_agent_graph.nodes", f"nas_agent_graph.{name}", name in NODE_MAY_IMPORT)
    for outside in ("torch", "openai", "langchain_openai", "subprocess"):
        sort("nas_agent_graph.nodes", outside, False)
    return allowed, forbidden


def write_packages(folder: Path, imports: set[ImportPair]) -> set[ImportPair]:
    """The two packages with nothing in them but `imports`; returns them as pairs of modules.

    Everything is a package here, and every import has a module of its own. So there are no chains,
    and what a contract reports is the import itself.
    """
    names = [f"nas_system.{name}" for name in NAS_SYSTEM] + [f"nas_agent_graph.{name}" for name in AGENT]
    for name in (*PACKAGES, *names):
        target = folder / name.replace(".", "/")
        target.mkdir(parents=True)
        (target / "__init__.py").write_text("")
    written = set()
    for importer, imported in imports:
        module = f"needs_{imported.replace('.', '_')}"
        (folder / importer.replace(".", "/") / f"{module}.py").write_text(f"import {imported}\n")
        written.add((f"{importer}.{module}", imported))
    return written


def test_the_contracts_allow_what_the_table_allows(tmp_path: Path, project_root: Path) -> None:
    write_packages(tmp_path, allowed_and_forbidden_imports()[0])
    checked = lint_imports(tmp_path, project_root / "pyproject.toml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_contracts_forbid_what_the_table_forbids(tmp_path: Path, project_root: Path) -> None:
    written = write_packages(tmp_path, allowed_and_forbidden_imports()[1])
    checked = lint_imports(tmp_path, project_root / "pyproject.toml")
    refused = set(re.findall(r"^\s*-?\s*([\w.]+) -> ([\w.]+) \(l\.", checked.stdout, flags=re.MULTILINE))
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert written - refused == set(), "no contract forbids these"


def test_the_contracts_keep_one_node_from_another(tmp_path: Path, project_root: Path) -> None:
    write_packages(tmp_path, set())
    (tmp_path / "nas_agent_graph/nodes/one.py").write_text("")
    (tmp_path / "nas_agent_graph/nodes/two.py").write_text("from nas_agent_graph.nodes import one\n")
    checked = lint_imports(tmp_path, project_root / "pyproject.toml")
    assert "nas_agent_graph.nodes.two -> nas_agent_graph.nodes.one" in checked.stdout
    assert "1 broken" in checked.stdout


def test_the_contracts_demand_a_place_for_a_new_package(tmp_path: Path, project_root: Path) -> None:
    write_packages(tmp_path, set())
    (tmp_path / "nas_system/afterthought.py").write_text("")
    checked = lint_imports(tmp_path, project_root / "pyproject.toml")
    assert "nas_system.afterthought" in checked.stdout
    assert checked.returncode == 1


@pytest.mark.parametrize("name", ["errors", "files"])
def test_the_ground_floor_needs_only_the_standard_library(name: str) -> None:
    imported = {module.partition(".")[0] for module in imports_of(ROOT / "nas_system" / f"{name}.py")}
    assert imported <= sys.stdlib_module_names


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names of the modules that `path` imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert STRUCTURE["circles"](STRUCTURE["import_graph"](STRUCTURE["modules"](ROOT))) == []


def test_no_chain_of_imports_is_too_long_to_follow() -> None:
    chain = STRUCTURE["longest_chain"](STRUCTURE["import_graph"](STRUCTURE["modules"](ROOT)))
    assert len(chain) <= 14, " > ".join(chain)


def write_modules(root: Path, texts: dict[str, str]) -> None:
    """Write one file of `nas_system` for every entry: its name and its text."""
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("")
    for name, text in texts.items():
        (root / "nas_system" / f"{name}.py").write_text(text)


def test_chains_and_circles_are_found_in_any_kind_of_import(tmp_path: Path) -> None:
    write_modules(
        tmp_path,
        {
            "top": "def late():\n    from nas_system import left\n",
            "left": "import nas_system.right\n",
            "right": "from nas_system.left import name\nfrom nas_system.ground import name\n",
            "ground": "if TYPE_CHECKING:\n    from nas_system.top import late\n",
        },
    )
    graph = STRUCTURE["import_graph"](STRUCTURE["modules"](tmp_path))
    assert STRUCTURE["circles"](graph) == [{"nas_system.left", "nas_system.right"}]
    assert STRUCTURE["longest_chain"](graph) == ["nas_system.top", "nas_system.left", "nas_system.ground"]


def test_an_import_on_first_use_counts(tmp_path: Path) -> None:
    lazy = "if TYPE_CHECKING:\n    from nas_system.ground import name\ndef __getattr__(name): ...\n"
    write_modules(tmp_path, {"lazy": lazy, "ground": ""})
    graph = STRUCTURE["import_graph"](STRUCTURE["modules"](tmp_path))
    assert STRUCTURE["longest_chain"](graph) == ["nas_system.lazy", "nas_system.ground"]


# --- what an import does --------------------------------------------------------------------

# Runs in a folder of its own. Prints what was loaded as the last line, so that anything an
# import prints stands before it.
IMPORT_ALL = """
import importlib, json, logging, sys
opened = []
def watch(event, arguments):
    if event == "open" and str(arguments[0]).rpartition("/")[2] == ".env":
        opened.append(".env")
    if event in ("socket.connect", "subprocess.Popen", "os.fork"):
        opened.append(event)
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({
    "loaded": sorted(name for name in sys.modules if "." not in name),
    "touched": sorted(set(opened)),
    "root log handlers": [repr(handler) for handler in logging.getLogger().handlers],
}))
"""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def run_in_empty_folder(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_does_no_work(package: str, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / ".env").write_text("OPENAI_API_KEY=must-not-be-read\n")
    names = [module_name(path) for path in SOURCES if module_name(path).startswith(package)]
    done = run_in_empty_folder(folder, IMPORT_ALL, *names)
    assert done.returncode == 0, done.stderr
    *printed, result = done.stdout.splitlines()
    result = json.loads(result)
    assert printed == []
    assert done.stderr == ""
    assert result["touched"] == []
    assert result["root log handlers"] == []
    assert [path.name for path in folder.iterdir()] == [".env"]
    if package == "nas_agent_graph":
        assert not {"torch", "matplotlib"} & set(result["loaded"])
    else:
        assert not {"langgraph", "langchain_core", "openai"} & set(result["loaded"])


def test_the_library_both_programs_share_loads_no_torch(tmp_path: Path) -> None:
    shared = (*GROUND, "nas_agent", "visualization")
    names = [module_name(path) for path in SOURCES]
    names = [name for name in names if name.startswith(tuple(f"nas_system.{part}" for part in shared))]
    done = run_in_empty_folder(tmp_path, IMPORT_ALL, *names)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "langgraph", "langchain_core", "openai"} & set(json.loads(done.stdout)["loaded"])


HELP = """
import json, runpy, sys
module = sys.argv[1]
sys.argv = [module, "--help"]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "loaded": sorted(name for name in sys.modules if "." not in name)}))
"""


def programs() -> list[str]:
    """The modules people start: at the top of a package, with a `__main__` guard."""
    tops = [path for path in SOURCES if path.parent.name in PACKAGES or path.name == "__main__.py"]
    return [
        module_name(path) for path in tops if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("program", programs())
def test_help_loads_nothing_heavy(program: str, tmp_path: Path) -> None:
    done = run_in_empty_folder(tmp_path, HELP, program)
    assert done.returncode == 0, done.stderr
    text, result = done.stdout.rsplit("\n", 2)[0], json.loads(done.stdout.splitlines()[-1])
    assert result["code"] in (0, None)
    assert text.startswith("usage:")
    heavy = {
        "torch",
        "langgraph",
        "langchain_core",
        "langchain_openai",
        "openai",
        "optuna",
        "pandas",
        "matplotlib",
    }
    assert not heavy & set(result["loaded"])


# --- what stands in the files ---------------------------------------------------------------


def nodes_of(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def test_the_backward_pass_stands_in_the_engine_and_in_the_trainer_of_tiny_networks() -> None:
    def calls_backward(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "backward"
        )

    found = [module_name(path) for path in SOURCES if any(map(calls_backward, nodes_of(path)))]
    assert found == ["nas_system.netformer.weights.zoo.tiny_trainer", "nas_system.training.loops"]


def catches_everything(node: ast.AST) -> bool:
    """`except:` or `except Exception:` or `except BaseException:`, unless it only cleans up and raises on."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {"Exception" if kind is None else getattr(kind, "id", "") for kind in caught}
    last = node.body[-1]
    raises_on = isinstance(last, ast.Raise) and last.exc is None
    return bool(names & {"Exception", "BaseException"}) and not raises_on


def test_only_the_borders_of_programs_catch_everything() -> None:
    found = [module_name(path) for path in SOURCES for node in nodes_of(path) if catches_everything(node)]
    programs = {"nas_agent_graph.run", "nas_system.train", "nas_system.draw_pictures"}
    # A fork server goes on with any import that fails, and no frame of it may see how a forked program ends.
    programs |= {"nas_system.processes.fork_server", "nas_system.processes.forked_program"}
    assert set(found) <= programs
    assert len(found) == len(set(found)), "once is enough"


def test_no_module_is_too_long_to_read() -> None:
    lengths = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_no_folder_has_too_many_files_to_see_at_once() -> None:
    folder, files = STRUCTURE["fullest_folder"](ROOT)
    assert files <= 16, folder


def test_only_the_tasks_themselves_ask_which_task_it_is(tmp_path: Path) -> None:
    assert STRUCTURE["task_checks"](STRUCTURE["modules"](ROOT)) == [], "let the task class say what differs"
    check = "if isinstance(config.task, (int, GraphRegressionTask)):\n    pass\n"
    write_modules(tmp_path, {"branching": check})
    assert STRUCTURE["task_checks"](STRUCTURE["modules"](tmp_path)) == ["nas_system.branching:1"]


def test_every_module_is_named_after_what_it_is() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "v2", "tools", "stuff"}
    assert [module_name(path) for path in SOURCES if vague & set(module_name(path).split("."))] == []


@pytest.fixture(scope="module")
def project_files() -> list[Path]:
    """Everything that git has or would take."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def lines_matching(pattern: str, files: list[Path]) -> list[str]:
    expression = re.compile(pattern)
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture or an archive
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if expression.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    return found


def test_nothing_is_left_for_later(project_files: list[Path]) -> None:
    # Spelt in halves: this file is searched too.
    assert lines_matching(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b", project_files) == []


def test_no_file_names_a_folder_of_somebodys_machine(project_files: list[Path]) -> None:
    # Names that stand for anybody are examples.
    private = r"(?<![\w.}])/(?:(?:home|Users)/(?!you\b|user\b|somebody\b)|root/|work/|mnt/)\w"
    assert lines_matching(private, project_files) == []


def words_found(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "check_words.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_no_replaced_word_is_back(tmp_path: Path) -> None:
    assert words_found() == "no replaced word is back\n"
    (tmp_path / "nas_system").mkdir()
    (tmp_path / "nas_system" / "a.py").write_text("# The sealed rows.\nold = record['sealed']\n")
    assert words_found(str(tmp_path)) == "nas_system/a.py:1: sealed -> hold-out\n"


def test_the_real_data_is_not_in_the_repository(project_files: list[Path]) -> None:
    columns = b"date,HUFL,HULL"
    assert [str(path) for path in project_files if path.read_bytes()[: len(columns)] == columns] == []
    assert [
        str(path) for path in project_files if path.name.lower().startswith("ett") and path.suffix == ".csv"
    ] == []


# --- the tests themselves -------------------------------------------------------------------


def test_tests_patch_nothing(project_files: list[Path]) -> None:
    tests = [path for path in project_files if path.is_relative_to(ROOT / "tests") and path.suffix == ".py"]
    assert lines_matching(r"\bmonkey" r"patch\b|\bunittest\.mo" r"ck\b|\bmo" r"cker\b", tests) == []


CLOCKS = {"monotonic", "perf_counter", "process_time", "monotonic_ns", "perf_counter_ns", "process_time_ns"}


def time_limits(source: str) -> list[int]:
    """Return the lines of asserts that a measured time, a difference of clock readings, is below something.

    Names are followed through assignments and returned values of the module. A lower bound holds on any
    machine, and `monotonic() < deadline` ends a wait: neither counts.
    """
    tree = ast.parse(source)
    readings: set[str] = set()
    measured: set[str] = set()

    def mentions(node: ast.AST, names: set[str]) -> bool:
        words = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
        words += [part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)]
        return not names.isdisjoint(words)

    def is_difference(node: ast.AST) -> bool:
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)):
            return False
        return all(mentions(side, CLOCKS | readings) for side in (node.left, node.right))

    def is_measured(node: ast.AST) -> bool:
        return mentions(node, measured) or any(map(is_difference, ast.walk(node)))

    for _ in range(3):  # a value may be handed on twice before it is compared
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if is_measured(node.value):
                    measured.add(name)
                elif mentions(node.value, CLOCKS):
                    readings.add(name)
            elif isinstance(node, ast.FunctionDef):
                returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
                if any(value is not None and is_measured(value) for value in returned):
                    measured.add(node.name)
    found = []
    for check in (node for node in ast.walk(tree) if isinstance(node, ast.Assert)):
        for test in (part for part in ast.walk(check.test) if isinstance(part, ast.Compare)):
            sides = [test.left, *test.comparators]
            for left, operator, right in zip(sides, test.ops, sides[1:], strict=False):
                small = right if isinstance(operator, ast.Gt | ast.GtE) else left
                if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and is_measured(small):
                    found.append(check.lineno)
    return found


def test_no_test_asserts_that_a_machine_is_fast(project_files: list[Path]) -> None:
    tests = [path for path in project_files if path.is_relative_to(ROOT / "tests") and path.suffix == ".py"]
    found = {str(path.relative_to(ROOT)): time_limits(path.read_text()) for path in tests}
    assert {name: lines for name, lines in found.items() if lines} == {}, (
        "test the reason, or measure it in benchmarks/"
    )


def test_an_asserted_time_is_found_and_a_wait_is_none() -> None:
    assert time_limits("began = time.monotonic()\nassert time.monotonic() - began < 2") == [2]
    assert time_limits("a = perf_counter()\ntook = perf_counter() - a\nassert 0 < took and 3 > took") == [3]
    assert time_limits("def f():\n    a = monotonic()\n    return monotonic() - a\nassert f() <= 1") == [4]
    assert time_limits("assert monotonic() < deadline") == []
    assert time_limits("a = monotonic()\nassert monotonic() - a > 0.9") == []


def test_a_child_has_the_default_signals(tmp_path: Path) -> None:
    """Also under `nohup` and in the background, where pytest itself is started with some of them ignored."""
    code = "import signal; print([signal.getsignal(n).name for n in (signal.SIGHUP, signal.SIGTERM)])"
    command = f"trap '' HUP INT TERM; exec {sys.executable} -m pytest -q -n 0 -p no:cacheprovider -s ."
    run = f"subprocess.check_output([sys.executable, '-c', {code!r}])"
    test = f"import subprocess, sys\ndef test():\n    print({run})\n"
    (tmp_path / "test_inner.py").write_text(test)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert "['SIG_DFL', 'SIG_DFL']" in done.stdout, done.stdout + done.stderr


def test_a_foreign_host_is_out_of_reach() -> None:
    # An address of the block reserved for documentation (RFC 5737), and a name that must not be looked up.
    with pytest.raises(RuntimeError, match=r"tried to reach 192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(RuntimeError, match=r"tried to reach example\.com"):
        socket.getaddrinfo("example.com", 443)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagrams, pytest.raises(RuntimeError, match=r"tried to reach 192\.0\.2\.1"):
        datagrams.sendto(b"", ("192.0.2.1", 53))


def test_this_machine_is_in_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("localhost", port), timeout=5) as client:
            assert client.getpeername()[1] == port


def test_a_child_inherits_no_key_and_no_way_out(
    run_cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "child.py").write_text(
        "import json, os, urllib.request, urllib.error\n"
        "try:\n"
        "    urllib.request.urlopen('http://192.0.2.1/', timeout=5)\n"
        "except urllib.error.URLError as error:\n"
        "    print(json.dumps([str(error), sorted(os.environ)]))\n"
    )
    done = run_cli("child", cwd=tmp_path, timeout_s=20)
    assert done.returncode == 0, done.stderr
    error, names = json.loads(done.stdout)
    assert "refused" in error
    assert [
        name for name in names if name.endswith("_API_KEY") or name.startswith(("NAS_LLM_", "OPENAI_"))
    ] == []
