"""Whole searches on a real Slurm cluster, whose daemons are killed under them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from chaos.search import Search, wait_for
from chaos.series import CHEAP, TASK, write_series
from python_server import ROOT

from clusters.slurm_cluster import SlurmCluster
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.processes.cluster_job import last_claim

EFFECT_S = 15.0
"""Of a blow to the whole cluster: a new controller looks for its jobs, one of more priority takes a place."""
SECRET = "sk-this-key-belongs-to-the-agent-alone"


def on(slurm: SlurmCluster) -> dict[str, object]:
    """Return how a search is started on the cluster."""
    return {"env": {**slurm.environment, "OPENAI_API_KEY": SECRET, "NAS_LLM_API_KEY": SECRET}}


def starts(search: Search) -> dict[str, int]:
    """Return how often each run's training has started, by the trainings' own word."""
    lines = (search.evidence / "ledger").read_text().splitlines()
    assert not [line for line in lines if " overlap " in line], "two trained one run at once"
    names = [line.split()[0] for line in lines if line.split()[1] == "start"]
    return {name: names.count(name) for name in names}


def job_of(search: Search, run_id: str) -> str:
    return (read_record(search.workspace / "runs" / run_id / "place.json") or {}).get("name", "")


@pytest.mark.fault(48)
@pytest.mark.timeout(240)
def test_a_search_trains_each_run_once_on_its_own_gpu_and_no_key_reaches_a_job(
    slurm: SlurmCluster,
    new_search: Callable[..., Search],
    record_property: Callable[[str, object], None],
) -> None:
    flags = ("--launcher", "slurm", "--slurm", "--gres=gpu:1", "--parallel", "3", "--max-runs", "6")
    search = new_search(*flags, **on(slurm))
    search.wish("epoch_s", "0.8")
    search.start()
    seen: set[str] = set()
    script, scripts = "", 0
    devices: set[str] = set()
    showing = None
    while search.process is not None and search.process.poll() is None:
        for run_dir, process in search.trainings():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            assert SECRET not in environment and "API_KEY" not in environment
            devices.add(re.findall("CUDA_VISIBLE_DEVICES=([^\0]*)", environment)[0])
            seen.add(run_dir.name)
        if seen and showing is None:
            command = [sys.executable, "-m", "nas_agent_graph.show", next(iter(seen))]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            showing = subprocess.Popen(
                command, cwd=search.workspace, env=environment, stdout=subprocess.PIPE, text=True
            )
        for name, state in slurm.jobs().items():
            if name.startswith("nas-") and state == "RUNNING":
                with contextlib.suppress(IndexError, subprocess.CalledProcessError):  # it has just ended
                    script = slurm.ask("scontrol", "write", "batch_script", slurm.job_id(name), "-")
                    scripts += 1
                assert SECRET not in script and (not scripts or "processes.supervisor" in script)
        time.sleep(0.2)
    assert search.wait() == 0, search.text()
    assert scripts and len(seen) >= 3, "environments of trainings were looked at"
    assert [run.status for run in search.last.runs] == ["OK"] * 6
    assert starts(search) == {f"run_{number:04d}": 1 for number in range(6)}
    assert search.most_at_once() > 1
    claim = read_record(search.workspace / "runs/run_0003/claim-1.json") or {}
    assert claim["engine"] == "slurm" and claim["host"] and claim["job"].isdigit()
    assert slurm.jobs()[job_of(search, "run_0003")] == "COMPLETED"
    assert showing is not None
    shown, _ = showing.communicate(timeout=60)
    assert re.search(r"run_\d{4}: (running \(on .+, as job \d+ of slurm|OK)", shown), shown
    assert devices <= {"0", "1"}, "one of the two GPUs of its node"
    record_property("measured", f"6 runs on 2 nodes with 2 GPUs each: 6 starts, {len(devices)} devices seen")


@pytest.mark.timeout(240)
def test_jobs_ask_for_the_memory_that_their_trainer_estimates_and_once_for_twice_as_much(
    slurm: SlurmCluster, new_search: Callable[..., Search]
) -> None:
    flags = ("--launcher", "slurm", "--memory-per-run", "auto", "--parallel", "2", "--max-runs", "2")
    search = new_search(*flags, **on(slurm))
    # In the sandbox no module of the tests is found, and only modules are asked for an estimate.
    stand_in = search.command.index("-S")
    hungry = [str(Path(__file__).with_name("hungry_trainer.py")), search.command[stand_in + 1]]
    profiled = ["-m", "cProfile", "-o", str(search.evidence / "profile")]
    search.command[stand_in : stand_in + 2] = [*profiled, *hungry]
    end = search.command.index("--")
    search.command[end:end] = ["--device", "cpu"]
    search.wish("epoch_s", "0.8")
    search.start()
    assert search.wait(200) == 0, search.text()
    ended = [(run.status, run.attempt) for run in search.last.runs]
    assert ended == [("OK", 2)] * 2, search.text()
    for run in search.last.runs:
        run_dir = search.workspace / "runs" / run.run_id
        retried = read_record(run_dir / "retried.json") or {}
        assert retried["status"] == "OOM_HOST" and "more than the limit" in retried["cause"]
        assert (read_record(run_dir / "place.json") or {})["memory_mb"] == 512
        name = f"--name={job_of(search, run.run_id)}"
        asked = slurm.ask("squeue", "--noheader", "--states=all", name, "--format=%m").split()
        assert asked == ["512M"], "what the second job asked for"


class Blows:
    """What happens to a search and its cluster, each once, at random moments."""

    def __init__(self, slurm: SlurmCluster, search: Search, rng: random.Random) -> None:
        self.slurm, self.search, self.rng = slurm, search, rng
        self.waiting: list[tuple[int, Callable[[], bool]]] = []
        kinds = [self.agent, self.supervisor, self.node_daemon, self.controller, self.requeue, self.preempt]
        rng.shuffle(kinds)
        # What one has done has mostly passed before the next one falls.
        self.waiting.extend(zip((1, 2, 4, 5, 7, 8), kinds, strict=True))
        self.done: list[str] = []
        self.hits_until = 0.0

    def strike(self) -> None:
        """Strike what is due by the number of runs that have ended."""
        self._count_hits()
        ended = len(self.search.last.runs)
        if self.waiting and ended >= self.waiting[0][0]:
            time.sleep(self.rng.uniform(0, 1.0))
            if self.waiting[0][1]():
                self.done.append(self.waiting.pop(0)[1].__name__)

    def agent(self) -> bool:
        self.search.kill_agent()
        self.search.start()
        return True

    def supervisor(self) -> bool:
        return self._trains() and self.search.kill_part("supervisor") is not None

    def node_daemon(self) -> bool:
        name = self.rng.choice(("slurmd.n0", "slurmd.n1"))
        self.slurm.kill(name)
        time.sleep(self.rng.uniform(0.2, 2.0))
        self.slurm.restart(name)
        return True

    def controller(self) -> bool:
        self._hit_all()
        self.slurm.kill("slurmctld")
        time.sleep(self.rng.uniform(0.2, 3.0))
        self.slurm.restart("slurmctld")
        self._hit_all()
        return True

    def requeue(self) -> bool:
        if not self._trains():
            return False
        for run_dir, _ in self.search.running("nas_system.processes.supervisor"):
            name = self.search.name_of(run_dir)
            try:
                number = self.slurm.job_id(job_of(self.search, name))
                self.slurm.ask("scontrol", "update", f"jobid={number}", "requeue=1")
                self.slurm.ask("scontrol", "requeue", number)
            except (subprocess.CalledProcessError, IndexError):
                continue
            self.search.hits[name] += 1
            return True
        return False

    def preempt(self) -> bool:
        if not self._trains():
            return False
        self._hit_all()
        self.slurm.ask("sbatch", "-p", "high", "-N", "2", "-n", "8", "--wrap", "sleep 1", "-o", "/dev/null")
        return True

    def _trains(self) -> bool:
        """Return whether a training is in its midst: a blow before it begins, or at its end, shows little."""
        running = list(self.search.running("nas_system.processes.supervisor"))
        return bool(running) and all((folder / "history.json").exists() for folder, _ in running)

    def _hit_all(self) -> None:
        """Count the blow for all runs in progress, and for those that begin while its effects last."""
        self.hits_until = time.monotonic() + EFFECT_S
        self._count_hits()

    def _count_hits(self) -> None:
        if time.monotonic() < self.hits_until:
            for run in load_agent_state(self.search.workspace / "agent_state.json").in_progress:
                self.search.hits[run.run_id] += 1


def measured_of(searches: list[Search]) -> str:
    """Say how many searches of 12 runs lived through their six blows, and what that took."""
    attempts = sum(
        last_claim(folder) for search in searches for folder in search.workspace.glob("runs/run_*")
    )
    begun = sum(sum(starts(search).values()) for search in searches)
    return f"Slurm, {len(searches)} x 12 runs and 6 blows: {begun} starts of {attempts} attempts, none twice"


def bombard(slurm: SlurmCluster, new_search: Callable[..., Search], seed: int) -> Search:
    """Let a search of 12 runs live through all blows; check what must hold at its end."""
    rng = random.Random(seed)
    flags = ("--launcher", "slurm", "--parallel", "4", "--max-runs", "12", "--slurm", "-p low")
    search = new_search(*flags, **on(slurm))
    search.wish("epoch_s", "1.0")
    search.start()
    blows = Blows(slurm, search, rng)
    give_up_at, look_at = time.monotonic() + 400, 0.0
    while search.process is not None and search.process.poll() is None:
        assert time.monotonic() < give_up_at, f"{blows.done}, {search.text()}"
        slurm.keep_up()
        if time.monotonic() > look_at:
            look_at = time.monotonic() + 5.0
            slurm.resume_nodes()
        search.check()
        blows.strike()
        time.sleep(0.1)
    assert search.wait() == 0, search.text()
    assert len(blows.done) == 6, blows.done
    assert sorted(run.run_id for run in search.last.runs) == [f"run_{number:04d}" for number in range(12)]
    for run_id, count in starts(search).items():
        claimed = last_claim(search.workspace / "runs" / run_id)
        assert count <= claimed, f"{run_id}: {count} starts, {claimed} attempts"
        if not search.hits[run_id]:
            assert (count, claimed) == (1, 1), f"{run_id}, which nothing hit: {count} starts"
    assert sum(starts(search).values()) > 12, "blows struck trainings"
    assert {run.status for run in search.last.runs} <= {"OK", "LOST"}
    assert sum(run.status == "OK" for run in search.last.runs) >= 10
    return search


@pytest.mark.fault(49, 62)
@pytest.mark.timeout(480)
def test_a_search_lives_through_the_death_of_everything(
    slurm: SlurmCluster,
    new_search: Callable[..., Search],
    record_property: Callable[[str, object], None],
) -> None:
    search = bombard(slurm, new_search, seed=1)
    record_property("measured", measured_of([search]))


@pytest.mark.slow
@pytest.mark.fault(49, 62)
@pytest.mark.timeout(2400)
def test_and_five_times_in_a_row(
    slurm: SlurmCluster,
    new_search: Callable[..., Search],
    record_property: Callable[[str, object], None],
) -> None:
    searches = [bombard(slurm, new_search, seed) for seed in range(2, 7)]
    record_property("measured", measured_of(searches))


def _has_begun(ledger: Path, earlier: int) -> bool:
    return ledger.exists() and ledger.read_text().count(" start ") > earlier


@pytest.mark.timeout(240)
def test_a_search_that_is_stopped_ends_its_jobs_and_one_that_detaches_leaves_them(
    slurm: SlurmCluster, new_search: Callable[..., Search]
) -> None:
    flags = ("--launcher", "slurm", "--parallel", "2", "--max-runs", "4")
    search = new_search(*flags, **on(slurm))
    search.wish("epoch_s", "1.5")
    command, ledger = list(search.command), search.evidence / "ledger"
    for begun, detach in enumerate((False, True)):
        search.command = [*command, "--detach"] if detach else command
        process = search.start()
        wait_for(partial(_has_begun, ledger, begun), "a training")
        process.send_signal(signal.SIGINT)
        assert search.wait() == 130, search.text()
        running = list(search.running("nas_system.processes.supervisor"))
        assert bool(running) is detach
        if detach:
            assert "trainings that go on: " in search.text()
        else:
            ended = read_record(search.workspace / "runs/run_0000/exit.json") or {}
            assert ended["ended"] == "stop_request"
    search.wish("epoch_s", "0.1")
    search.start()
    assert search.wait() == 0, search.text()
    assert [run.status for run in search.last.runs] == ["OK"] * 4
    # Only the first was ended, and begun again.
    assert {name: count for name, count in starts(search).items() if count > 1} == {"run_0000": 2}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--slurm", "-p nowhere"], "nowhere"),
        (["--slurm", "--gres=gpu:9"], "Requested node configuration is not available"),
        (["--slurm", "--export=ALL"], "--export is the search's own: no key may reach a job"),
        (["--slurm", "--job-name=x"], "--job-name is the search's own"),
        (["--slurm", "'"], "No closing quotation"),
        (["--parallel", "auto"], "give --parallel and --threads numbers"),
        (["--ray-address", "http://127.0.0.1:1"], "--ray-address is for --launcher ray"),
        (["--gpus-per-run", "0.5"], "what a job gets on Slurm is said with --slurm"),
    ],
)
def test_what_slurm_will_never_take_is_said_before_anything_begins(
    slurm: SlurmCluster,
    tmp_path: Path,
    run_cli: Callable[..., subprocess.CompletedProcess[str]],
    flags: list[str],
    said: str,
) -> None:
    done = run_cli(
        "nas_agent_graph.run",
        "--launcher",
        "slurm",
        "--max-runs",
        "2",
        *flags,
        cwd=tmp_path,
        env=slurm.environment,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/run_*"))


@pytest.mark.timeout(120)
def test_doctor_proves_from_inside_a_job_what_a_search_needs(
    slurm: SlurmCluster, tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    command = ("nas_agent_graph.doctor", "--launcher", "slurm")
    environment = {**slurm.environment, "OPENAI_API_KEY": SECRET}
    done = run_cli(*command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        f"folder       {tmp_path} is the same there and here",
        "claim        made once, and seen here",
        "clock        agrees",
        f"Python       {sys.version.split()[0]}, ",
        "secrets      no variable of the job looks like one",
        "Trainings can run there.",
    ):
        assert line in done.stdout, done.stdout
    assert "sandbox " in done.stdout and not list(tmp_path.glob("runs/doctor_*"))
    # A GPU that Slurm gives out and torch cannot use.
    done = run_cli(*command, "--slurm", "--gres=gpu:1", cwd=tmp_path, env=environment)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "To fix: the job has GPU " in done.stdout


@pytest.mark.timeout(240)
def test_a_folder_that_the_nodes_do_not_see_is_said_and_how_to_find_out(
    slurm: SlurmCluster, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    workspace = slurm.private / "workspace"
    workspace.mkdir()
    done = run_cli("nas_agent_graph.doctor", "--launcher", "slurm", cwd=workspace, env=slurm.environment)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "To fix: the job did not run to its end" in done.stdout
    assert "Both must lie in folders that all nodes share." in done.stdout
    write_series(workspace)
    search = ("nas_agent_graph.run", *TASK, *CHEAP, "--launcher", "slurm", "--max-runs", "2")
    done = run_cli(*search, cwd=workspace, env=slurm.environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "has ended 3 times before its training began (FAILED): does a node see " in done.stderr
    assert "nas doctor --launcher slurm tries it" in done.stderr
    assert load_agent_state(workspace / "agent_state.json").in_progress[0].run_id == "run_0000"


def test_without_slurms_programs_it_says_where_to_start(
    tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_cli("nas_agent_graph.run", "--launcher", "slurm", cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "sbatch is not on the PATH; start the search where jobs are submitted" in done.stderr


@pytest.mark.timeout(120)
def test_a_controller_that_is_away_pauses_the_search(
    tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The configuration leads to a port at which nobody listens."""
    (tmp_path / "slurm.conf").write_text(
        "ClusterName=loop\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\nAuthType=auth/munge\n"
        "MessageTimeout=2\nNodeName=n0 CPUs=1\nPartitionName=main Nodes=ALL Default=YES\n"
    )
    environment = {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    done = run_cli("nas_agent_graph.run", "--launcher", "slurm", cwd=tmp_path, env=environment)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "slurm does not answer" in done.stderr and "give the same command again" in done.stderr
    assert os.listdir(tmp_path)
