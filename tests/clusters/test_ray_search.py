"""Whole searches on a real Ray cluster, whose nodes and head are killed under them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.search import Search, wait_for

from clusters.ray_cluster import ADDRESS, RayCluster
from nas_system.files import read_record
from nas_system.processes.cluster_job import last_claim

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]
SECRET = "sk-this-key-belongs-to-the-agent-alone"


def on(ray: RayCluster) -> dict[str, Any]:
    """Return how a search is started on the cluster."""
    return {"env": {**ray.environment, "OPENAI_API_KEY": SECRET}}


def starts(search: Search) -> dict[str, int]:
    """Return how often each run's training has started, by the trainings' own word."""
    ledger = search.evidence / "ledger"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    assert not [line for line in lines if " overlap " in line], "two trained one run at once"
    names = [line.split()[0] for line in lines if line.split()[1] == "start"]
    return {name: names.count(name) for name in names}


def new(new_search: Callable[..., Search], ray: RayCluster, runs: int, *flags: str) -> Search:
    own = ("--launcher", "ray", "--ray-address", ADDRESS, "--parallel", "2", "--max-runs", str(runs))
    return new_search(*own, *flags, **on(ray))


def environments(search: Search) -> dict[str, str]:
    """Return the environments of the trainings that run, by their runs."""
    found = {}
    for run_dir, process in search.trainings():
        with contextlib.suppress(OSError):
            found[run_dir.name] = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
    return found


@pytest.mark.fault(49, 62)
def test_a_search_lives_through_the_death_of_its_agent_a_node_and_the_head(
    ray: RayCluster, new_search: Callable[..., Search]
) -> None:
    # Two share the GPU of their node.
    search = new(new_search, ray, 6, "--device", "cuda", "--gpus-per-run", "0.5")
    search.wish("epoch_s", "1.0")
    search.start(*ray.inside)
    wait_for(lambda: len(starts(search)) > 2, "two trainings side by side")
    seen = environments(search)
    assert seen and all("CUDA_VISIBLE_DEVICES=0\0" in environment for environment in seen.values())
    assert not any(SECRET in environment for environment in seen.values())
    # The node dies with what trains there; the attempt is lost, and another begins on a new node.
    ray.kill_node()
    lost = {name for name, _ in search.trainings()}
    assert lost
    ray.start_node()
    wait_for(lambda: any(count > 1 for count in starts(search).values()), "a second attempt", 180)
    # So does the agent: what it has sent is found by name.
    search.kill_agent()
    search.start(*ray.inside)
    search.check()
    # A new head knows no job of the old one's.
    ray.kill_head()
    ray.start_head()
    ray.start_node()
    assert search.wait(300) == 0, search.text()
    assert len(search.last.runs) == 6
    for run_id, count in starts(search).items():
        assert count <= last_claim(search.workspace / "runs" / run_id)
    assert sum(run.status == "OK" for run in search.last.runs) >= 4, search.text()


@pytest.mark.fault(63)
def test_a_job_that_is_submitted_twice_begins_once(
    ray: RayCluster, tmp_path: Path, new_search: Callable[..., Search]
) -> None:
    search = new(new_search, ray, 1)
    search.wish("epoch_s", "0.8")
    search.start(*ray.inside)
    wait_for(lambda: starts(search), "the training")
    name = (read_record(search.workspace / "runs/run_0000/place.json") or {})["name"]
    code = (
        "import sys\n"
        "from ray.job_submission import JobSubmissionClient\n"
        f"client = JobSubmissionClient({ADDRESS!r})\n"
        "job = client.get_job_info(sys.argv[1])\n"
        # The same job under another name: whatever Ray thinks it is doing, it meets the claim, and leaves.
        "print(client.submit_job(entrypoint=job.entrypoint, submission_id=sys.argv[1] + '-again'))\n"
        "try:\n"
        "    client.submit_job(entrypoint=job.entrypoint, submission_id=sys.argv[1])\n"
        "except RuntimeError as error:\n"
        "    print('already exists' in str(error))\n"
    )
    command = [*ray.inside, sys.executable, "-c", code, name]
    done = subprocess.run(
        command, env={**os.environ, **ray.environment}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == [f"{name}-again", "True"], done.stderr
    assert search.wait(120) == 0, search.text()
    assert starts(search) == {"run_0000": 1}
    assert last_claim(search.workspace / "runs/run_0000") == 1


def test_a_search_that_is_asked_to_stop_has_its_whole_grace(
    ray: RayCluster, new_search: Callable[..., Search]
) -> None:
    """Ray itself would kill after three seconds."""
    search = new(new_search, ray, 2)
    search.wish("epoch_s", "1.0")
    process = search.start(*ray.inside)
    wait_for(lambda: starts(search), "a training")
    process.terminate()
    assert search.wait() == 143, search.text()
    ended = read_record(search.workspace / "runs/run_0000/exit.json") or {}
    assert ended["ended"] == "stop_request"
    search.wish("epoch_s", "0.1")
    search.start(*ray.inside)
    assert search.wait() == 0, search.text()
    assert [(run.status, run.attempt) for run in search.last.runs] == [("OK", 2), ("OK", 1)]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--ray-address", "ray://127.0.0.1:10001"], 2, "give the address of the dashboard"),
        (["--ray-address", "http://127.0.0.1:9"], 4, "ray does not answer"),
    ],
)
def test_an_address_that_does_not_answer_is_said_before_anything_begins(
    tmp_path: Path, run_cli: Callable[..., Any], flags: list[str], code: int, said: str
) -> None:
    pytest.importorskip("ray")
    done = run_cli("nas_agent_graph.run", "--launcher", "ray", *flags, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/run_*"))
