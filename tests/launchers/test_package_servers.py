"""Models that are built on an optional package: it is imported once for all of them, and for no others."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import write_wave
from forked_trainings import (
    HERE,
    READY_S,
    ended,
    job,
    launcher_of,
    parent_of,
    process_of,
    run,
    submit_training,
    wait_for,
)

from nas_agent_graph.launchers.fork_server import ForkServer
from nas_agent_graph.launchers.local import LocalLauncher
from nas_agent_graph.search_setup import modules_for
from nas_system.data import locate
from nas_system.files import read_object, write_json
from nas_system.processes.process_tree import identify
from nas_system.space import ForecastingTask
from nas_system.space.sampling import is_installed
from nas_system.space.task_info import TaskInfo
from nas_system.space.tasks import class_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")

PACKAGES = {
    "quiet": "imported = True",
    "with_thread": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "broken": "raise ImportError",
}
HAS = "import sys; print(sorted({'quiet', 'with_thread', 'broken'} & set(sys.modules)))"


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[LocalLauncher]:
    packages = tmp_path / "packages"
    packages.mkdir()
    for name, code in PACKAGES.items():
        (packages / f"{name}.py").write_text(code)
    made = launcher_of("forked_code", PYTHONPATH=f"{packages}:{HERE}")
    yield made
    made.close()


@pytest.fixture
def imported(launcher: LocalLauncher, tmp_path: Path) -> Callable[[str | None], str]:
    """Runs a training that needs a package; returns which packages it found imported."""
    numbers = itertools.count()

    def train(package: str | None) -> str:
        return run(launcher, tmp_path / f"run_{next(numbers):04d}", HAS, package=package).strip()

    return train


def servers_of(launcher: LocalLauncher) -> list[ForkServer]:
    return list(launcher.package_servers or ())


def test_the_second_training_that_needs_a_package_has_it_imported_for_those_after_it(
    launcher: LocalLauncher, imported: Callable[[str | None], str], tmp_path: Path
) -> None:
    assert imported("quiet") == "[]"
    assert servers_of(launcher) == [], "a package that is needed once is imported once"
    assert imported("quiet") == "[]"
    (server,) = servers_of(launcher)
    assert server.wait_until_ready(READY_S), server.problem
    assert imported("quiet") == "['quiet']"
    assert imported(None) == "[]", "what others do not need, they do not have"
    assert launcher.call("forked_code", [HAS], timeout_s=60).strip() == "['quiet']"
    held = tmp_path / "held"
    held.mkdir()
    launcher.submit(held, job("import time; time.sleep(60)", package="quiet"), 1)
    assert parent_of(process_of(held, "supervisor").pid) == server.pid
    process = identify(server.pid or 0)
    launcher.close()
    assert not process.is_alive()
    assert launcher.is_running(held), "a training outlives every server"
    launcher.cancel(held)
    wait_for(lambda: not launcher.is_running(held), "the end of the training")


@pytest.mark.parametrize("package", ["with_thread", "broken", "absent"])
def test_a_package_that_no_server_can_hold_is_imported_by_each_training(
    launcher: LocalLauncher, imported: Callable[[str | None], str], package: str
) -> None:
    assert [imported(package), imported(package)] == ["[]", "[]"]
    (server,) = servers_of(launcher)
    assert not server.wait_until_ready(READY_S)
    assert server.problem
    assert imported(package) == "[]"
    assert launcher.fork_server is not None and launcher.fork_server.is_ready
    assert launcher.call("forked_code", [HAS], timeout_s=60).strip() == "[]"


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("pytorch_forecasting"), reason="needs the extra tft")
def test_scores_are_the_same_where_the_package_was_imported_before(tmp_path: Path) -> None:
    data = write_wave(tmp_path / "wave.csv", 400)
    task = ForecastingTask(dataset=str(data), targets=("load",), pred_len=8)
    facts = tmp_path / "task_facts.json"
    write_json(facts, TaskInfo(task, locate(task, download=False)).to_json())
    launcher = launcher_of("nas_system.train")
    try:
        results = []
        for number in range(3):
            run_dir = tmp_path / f"runs/run_{number:04d}"
            run_dir.mkdir(parents=True)
            submit_training(launcher, run_dir, "tft", 1, task, facts, data)
            assert ended(launcher, run_dir)["returncode"] == 0, (run_dir / "train.log").read_text()
            metrics = read_object(run_dir / "metrics.json")
            results.append([metrics[name] for name in ("val_mse", "test_mse", "checkpoint_sha256", "steps")])
            for server in servers_of(launcher):
                assert server.wait_until_ready(READY_S), server.problem
        assert servers_of(launcher)
        assert results[0] == results[1] == results[2]
    finally:
        launcher.close()


def test_only_a_package_that_all_families_of_a_task_need_is_imported_at_the_start() -> None:
    assert modules_for(ForecastingTask()) == ["nas_system.tasks.forecasting"]
    expected = ["torch_geometric"] if is_installed("torch_geometric") else []
    graphs = class_of("zinc_synth")
    assert graphs is not None
    assert modules_for(graphs()) == ["nas_system.tasks.graph_regression", *expected]
