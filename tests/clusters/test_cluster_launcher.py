"""What a launcher on a cluster concludes from the files of a run and from the words of its engine."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos.series import write_series
from simulated import SimulatedClock

from clusters.scripted_engine import ScriptedEngine
from nas_agent_graph.launchers import build_launcher
from nas_agent_graph.launchers.cluster import ClusterLauncher, job_script, settle_seconds
from nas_agent_graph.launchers.engine import EngineSilent, JobRequest, ListedJob, NotNow
from nas_agent_graph.launchers.memory_request import ON_CUDA_MB, STEP_MB
from nas_agent_graph.launchers.place import has_outgrown_estimate, read_place, refuse_other_engines
from nas_agent_graph.launchers.slurm import Slurm
from nas_system.config_io.config_file import write_config
from nas_system.errors import ConfigError, RunError
from nas_system.files import write_json
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.cluster_job import claim_attempt, last_claim, orders_for
from nas_system.processes.job import Job
from nas_system.processes.machine_memory import MEMORY_SHARE
from nas_system.processes.run_files import RunPaths
from nas_system.space import ForecastingTask, family_default

JOB = Job(command=("true",), time_limit_s=60.0)


@dataclass
class Cluster:
    """A launcher, its engine and the clock that both go by."""

    workspace: Path
    engine: ScriptedEngine
    clock: SimulatedClock
    notes: list[str]
    launcher: ClusterLauncher

    @property
    def run_dir(self) -> Path:
        return self.workspace / "runs/run_0000"

    def state(self, after_s: float = 0.0) -> str:
        """Return the run's state once the engine has been asked what was due by then."""
        end = self.clock.now + after_s
        while True:
            self.launcher.conversation.turn()
            found = self.launcher.survey([self.run_dir])[self.run_dir]
            assert self.launcher.n_queued([self.run_dir]) == (found == "queued")
            if self.clock.now >= end:
                return found
            self.clock.now = min(self.clock.now + 1.0, end)

    def submit(self, attempt: int = 1, job: Job = JOB) -> str:
        """Submit the attempt, and return the name of its job."""
        self.launcher.submit(self.run_dir, job, attempt)
        self.launcher.conversation.turn()
        place = read_place(self.run_dir)
        assert place is not None
        return place.name

    def begin(self, attempt: int = 1) -> None:
        """Do what a supervisor does at its start."""
        assert claim_attempt(self.run_dir, attempt, "slurm")
        write_json(RunPaths(self.run_dir).process, {"schema": 1, "attempt": attempt})


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Cluster]:
    """Start an agent: each call is another one in the same workspace, with the same engine and clock."""
    engine, clock = ScriptedEngine(), SimulatedClock()
    (tmp_path / "runs/run_0000").mkdir(parents=True)

    def make(**options: bool) -> Cluster:
        notes: list[str] = []
        launcher = ClusterLauncher(
            engine,
            build_launcher("local"),
            workspace=tmp_path,
            say=notes.append,
            environment={"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-secret", "TMPDIR": "/agents"},
            clock=clock,
            talks=False,
            **options,
        )
        return Cluster(tmp_path, engine, clock, notes, launcher)

    return make


@pytest.fixture
def cluster(start: Callable[[], Cluster]) -> Cluster:
    return start()


def test_a_job_waits_trains_and_ends_by_the_files_of_its_run(cluster: Cluster) -> None:
    name = cluster.submit()
    assert name.endswith("-run_0000-a1") and cluster.engine.submitted[0].name == name
    assert cluster.state(30) == "queued"
    cluster.engine.listed[name] = ListedJob("running")
    assert cluster.state(30) == "queued", "its job has begun, its supervisor has not"
    cluster.begin()
    assert cluster.state() == "running"
    write_json(
        RunPaths(cluster.run_dir).exit, {"schema": 1, "attempt": 1, "ended": "exited", "returncode": 0}
    )
    assert cluster.state() == "finished", "whatever the engine says"


def test_a_training_is_lost_only_if_the_engine_says_so_twice(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.begin()
    cluster.engine.listed[name] = ListedJob("running")
    assert cluster.state(20) == "running"
    cluster.engine.listed[name] = ListedJob("ended", "NODE_FAIL")
    cluster.launcher.conversation.ask_at(cluster.clock.now)
    assert cluster.state() == "running", "its last files may not be seen yet"
    assert cluster.state(15) == "lost"
    outcome = read_outcome(cluster.run_dir, is_running=cluster.launcher.is_running)
    assert outcome.status is Status.LOST and "(NODE_FAIL)" in (outcome.cause or "")


def test_a_job_that_was_killed_for_memory_is_not_just_lost(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.begin()
    cluster.engine.listed[name] = ListedJob("ended", "OUT_OF_MEMORY")
    assert cluster.state(30) == "lost"
    outcome = read_outcome(cluster.run_dir, is_running=cluster.launcher.is_running)
    assert outcome.status is Status.OOM_HOST and not outcome.came_from_outside


def training_of(folder: Path, *flags: str) -> Job:
    """Return the training of a small network on a small series, as a search submits it."""
    write_series(folder)
    task = ForecastingTask(dataset=str(folder / "series.csv"), targets=("load",), pred_len=6, freq="h")
    config = family_default("linear").model_copy(update={"task": task})
    write_config(folder / "config.py", config)
    command = [sys.executable, "-m", "nas_system.train", "--config", str(folder / "config.py")]
    command += ["--runs-dir", str(folder / "runs"), "--tag", "run_0000", "--resume", *flags]
    return Job(command=tuple(command), time_limit_s=60.0)


def test_a_job_asks_for_what_its_trainer_estimates_and_for_twice_as_much_after_that_was_too_little(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster, job = start(estimates_memory=True), training_of(tmp_path, "--device", "cpu")
    name = cluster.submit(job=job)
    asked = cluster.engine.submitted[-1].memory_mb
    assert asked is not None, cluster.notes
    assert asked % STEP_MB == 0 and 300 < asked < 2000
    assert not (tmp_path / "runs/run_0000/work").exists(), "nothing of it is left in the run's folder"
    cluster.begin()
    cluster.engine.listed[name] = ListedJob("ended", "NODE_FAIL")
    assert cluster.state(30) == "lost"
    name = cluster.submit(2, job)
    assert cluster.engine.submitted[-1].memory_mb == asked, "a lost node says nothing about memory"
    cluster.begin(2)
    cluster.engine.listed[name] = ListedJob("ended", "OUT_OF_MEMORY")
    assert cluster.state(30) == "lost"
    outcome = read_outcome(cluster.run_dir, is_running=cluster.launcher.is_running)
    assert has_outgrown_estimate(cluster.run_dir, outcome)
    restarted = start(estimates_memory=True)
    restarted.submit(3, job)
    assert cluster.engine.submitted[-1].memory_mb == 2 * asked
    assert not cluster.notes and not restarted.notes


@pytest.mark.parametrize("flags", [(), ("--device", "auto"), ("--through", "val", "--epochs", "2")])
def test_what_may_train_on_a_gpu_asks_for_the_memory_of_its_libraries_as_well(
    start: Callable[..., Cluster], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    cluster = start(estimates_memory=True)
    cluster.submit(job=training_of(tmp_path, *flags))
    asked = cluster.engine.submitted[-1].memory_mb
    assert asked is not None, cluster.notes
    assert asked > ON_CUDA_MB / MEMORY_SHARE


def test_an_estimate_that_no_node_has_does_not_end_the_search(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = start(estimates_memory=True)
    cluster.engine.largest_mb = 256
    name = cluster.submit(job=training_of(tmp_path, "--device", "cpu"))
    assert cluster.state(15) == "queued"
    assert [job.memory_mb for job in cluster.engine.submitted] == [None]
    (note,) = cluster.notes
    assert re.fullmatch(
        rf"{name}: slurm refuses a job of [\d,]+ MiB, the estimate for its training; .*", note
    )


def test_what_a_person_says_of_memory_holds_and_where_there_is_no_estimate_none_is_made_up(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = start(estimates_memory=True)
    cluster.submit(job=dataclasses.replace(JOB, memory_limit_mb=800))
    assert cluster.engine.submitted[-1].memory_mb == 1000 and not cluster.notes
    job = training_of(tmp_path)
    (tmp_path / "config.py").write_text("model = nonsense(")
    cluster.submit(2, job)
    assert cluster.engine.submitted[-1].memory_mb is None
    (note,) = cluster.notes
    assert note.startswith("run_0000: no estimate of its memory (")
    assert note.endswith("its job gets what slurm gives by default")
    for command in (("true",), ("python", "-m", "nowhere.to.be.found"), ("python", "-m", "platform")):
        cluster.submit(last_claim(cluster.run_dir) + 3, dataclasses.replace(JOB, command=command))
        assert cluster.engine.submitted[-1].memory_mb is None


@pytest.mark.parametrize(
    "flags",
    [
        *("-J foo", "-Jfoo", "-QJfoo", "--job-name=foo", "--job-na=foo", "--job-name foo"),
        *("-a0-3", "--arr=0-3", "-N2", "-HN2", "-n4", "-o/dev/null", "--out=FILE", "-D/tmp", "-p main -Jx"),
        *("--requeu", "--wra=hostname", "--export-f=FILE", "--export=ALL", "--sig=TERM@9", "-W", "--wai"),
        *("--version", "-V", "-h", "--help", "--usage", "-- script.sh"),
    ],
)
def test_a_flag_of_the_searchs_own_is_refused_however_it_is_spelled(flags: str) -> None:
    with pytest.raises(ConfigError, match=r"is the search's own: .*; leave it out"):
        Slurm(flags)


@pytest.mark.parametrize(
    "flags",
    [
        *("-p gpu -A project --gres=gpu:1", "-pJN", "-p -J", "-A N2", "-C a100&nvlink", "-sH", "-t 10:00"),
        *("--nodelist=n1", "--ntasks-per-core=1", "--wait-all-nodes=1", "--comment='a b -J c'", "--mem=4G"),
    ],
)
def test_a_persons_own_flags_are_kept(flags: str) -> None:
    Slurm(flags)


@pytest.mark.parametrize("said", ["", "slurm 22.05.8", "Submitted batch job 7"])
def test_a_submission_that_names_no_job_is_an_error(tmp_path: Path, said: str) -> None:
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho {shlex.quote(said)}\n")
    program.chmod(0o755)
    engine = Slurm(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with pytest.raises(ConfigError, match="sbatch has submitted no job"):
        engine.submit(JobRequest("nas-x", "#!/bin/sh\n", "/dev/null", time_limit_s=60.0))


@pytest.mark.parametrize("said", ["7", "7;cluster", "Welcome\n--> ok\n7\n"])
def test_a_submission_names_its_job_also_in_a_banner(tmp_path: Path, said: str) -> None:
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho {shlex.quote(said)}\n")
    program.chmod(0o755)
    engine = Slurm(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    engine.submit(JobRequest("nas-x", "#!/bin/sh\n", "/dev/null", time_limit_s=60.0))


def test_variables_that_change_what_is_asked_do_not_reach_slurms_programs(tmp_path: Path) -> None:
    for name, answer in (("sbatch", "7"), ("squeue", "nas-x|PENDING|Resources")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nenv >> {tmp_path}/seen\ncat >/dev/null\necho '{answer}'\n")
        program.chmod(0o755)
    given = {"SQUEUE_PARTITION": "high", "SCANCEL_STATE": "PENDING", "SBATCH_ARRAY_INX": "0-1"}
    given |= {"SBATCH_WAIT": "1", "SBATCH_REQUEUE": "1", "SBATCH_EXPORT": "ALL"}
    kept = {"SBATCH_ACCOUNT": "project", "SLURM_CONF": "/etc/slurm.conf"}
    engine = Slurm(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}", **given, **kept})
    engine.submit(JobRequest("nas-x", "#!/bin/sh\n", "/dev/null", time_limit_s=60.0))
    assert list(engine.jobs("nas-")) == ["nas-x"]
    seen = (tmp_path / "seen").read_text().splitlines()
    assert not {line.partition("=")[0] for line in seen} & set(given)
    assert all(seen.count(f"{name}={value}") == 2 for name, value in kept.items())


@pytest.mark.fault(62)
def test_an_engine_that_is_away_loses_nothing_and_is_said_after_ten_minutes(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.begin()
    cluster.engine.listed[name] = ListedJob("running")
    assert cluster.state(20) == "running"
    cluster.engine.is_away = True
    assert cluster.state(60) == "unknown" and cluster.launcher.is_running(cluster.run_dir)
    assert cluster.state(500) == "unknown" and not cluster.notes
    assert cluster.state(100) == "unknown"
    (note,) = cluster.notes
    assert "has not answered for ten minutes (Unable to contact slurm controller)" in note
    cluster.engine.is_away = False
    assert cluster.state(20) == "running" and cluster.notes[1:] == ["slurm answers again"]


def test_a_job_that_the_engine_forgets_before_it_began_is_submitted_again(cluster: Cluster) -> None:
    name = cluster.submit()
    assert cluster.state(20) == "queued"
    del cluster.engine.listed[name]
    assert cluster.state(40) == "absent"
    assert cluster.submit(last_claim(cluster.run_dir) + 1) == f"{name}-2"


def test_a_job_that_ends_again_and_again_before_it_begins_is_given_up(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.engine.listed[cluster.submit()] = ListedJob("ended", "FAILED")
        assert cluster.state(40) == "absent"
    with pytest.raises(
        RunError, match=r"has ended 3 times before its training began \(FAILED\): does a node see"
    ):
        cluster.submit()


def test_a_supervisor_that_died_between_its_claim_and_its_first_record_costs_an_attempt(
    cluster: Cluster,
) -> None:
    name = cluster.submit()
    assert claim_attempt(cluster.run_dir, 1, "slurm")
    cluster.engine.listed[name] = ListedJob("ended", "FAILED")
    assert cluster.state(40) == "absent"
    assert cluster.submit(last_claim(cluster.run_dir) + 1).endswith("-a2")


@pytest.mark.fault(49)
def test_a_requeued_job_is_ended_for_it_would_meet_its_own_claim(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.begin()
    cluster.engine.listed[name] = ListedJob("running")
    assert cluster.state(20) == "running"
    cluster.engine.listed[name] = ListedJob("queued", "BeginTime")
    cluster.state(15)
    assert cluster.engine.killed == [name]
    assert cluster.state(40) == "lost"


def test_supervisors_that_die_so_again_and_again_are_given_up(cluster: Cluster) -> None:
    for attempt in (1, 2, 3):
        name = cluster.submit(attempt)
        assert claim_attempt(cluster.run_dir, attempt, "slurm")
        cluster.engine.listed[name] = ListedJob("ended", "FAILED")
        assert cluster.state(40) == "absent"
    with pytest.raises(RunError, match="has ended 3 times before its training began"):
        cluster.submit(4)


def test_an_engine_whose_programs_are_gone_is_silent_and_no_more(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.begin()
    cluster.engine.listed[name] = ListedJob("running")
    assert cluster.state(20) == "running"
    cluster.engine.problem = ConfigError("squeue is not on the PATH")
    assert cluster.state(100) == "unknown"
    cluster.engine.problem = None
    assert cluster.state(20) == "running"


def test_a_job_that_is_taken_back_while_it_is_submitted_is_ended(cluster: Cluster) -> None:
    cluster.engine.meanwhile = lambda: cluster.launcher.cancel(cluster.run_dir)
    name = cluster.submit()
    cluster.state(5)
    assert cluster.engine.killed == [name]


def test_the_next_agent_finds_what_the_last_one_has_sent(start: Callable[[], Cluster]) -> None:
    name = start().submit()
    second = start()
    assert second.launcher.survey([second.run_dir])[second.run_dir] == "unknown", "it has not asked yet"
    assert second.state() == "queued" and len(second.engine.submitted) == 1
    with pytest.raises(ConfigError, match=f"run_0000 was sent to slurm as {name} and has not ended"):
        refuse_other_engines([second.run_dir], "local")
    refuse_other_engines([second.run_dir], "slurm")


def test_a_copy_of_a_workspace_is_another_search_and_a_moved_one_is_not(tmp_path: Path) -> None:
    def prefix(workspace: Path) -> str:
        launcher = ClusterLauncher(
            ScriptedEngine(), build_launcher("local"), workspace=workspace, say=print, talks=False
        )
        return launcher.conversation.prefix

    (tmp_path / "search/runs").mkdir(parents=True)
    known = prefix(tmp_path / "search")
    assert prefix(tmp_path / "search") == known
    shutil.copytree(tmp_path / "search", tmp_path / "copy")
    assert prefix(tmp_path / "copy") != known
    (tmp_path / "search").rename(tmp_path / "moved")
    assert prefix(tmp_path / "moved") == known


@pytest.mark.fault(63)
def test_a_submission_without_an_answer_is_looked_for_before_it_is_repeated(cluster: Cluster) -> None:
    cluster.engine.forgets_answer = True
    cluster.submit()
    cluster.engine.forgets_answer = False
    assert cluster.state(60) == "queued"
    assert len(cluster.engine.submitted) == 1


def test_a_job_that_is_not_taken_now_waits_and_is_said_once(cluster: Cluster) -> None:
    cluster.engine.refusal = NotNow("QOSMaxSubmitJobPerUserLimit")
    cluster.submit()
    assert cluster.state(100) == "queued" and cluster.engine.submitted == []
    assert cluster.notes == [
        "slurm takes no further job now (QOSMaxSubmitJobPerUserLimit); it is tried again"
    ]
    cluster.engine.refusal = None
    assert cluster.state(15) == "queued" and len(cluster.engine.submitted) == 1


def test_a_job_that_will_never_be_taken_is_an_error(cluster: Cluster) -> None:
    cluster.engine.refusal = ConfigError("Slurm refuses such jobs: invalid partition")
    cluster.submit()
    with pytest.raises(ConfigError, match="invalid partition"):
        cluster.launcher.survey([cluster.run_dir])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # Printed by a real sbatch.
        ("sbatch: error: invalid partition specified: nowhere", ConfigError),
        ("allocation failure: Requested node configuration is not available", ConfigError),
        ("sbatch: error: Memory specification can not be satisfied", ConfigError),
        ("sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", ConfigError),
        ("sbatch: error: Unable to open file foo.sh", ConfigError),
        ("sbatch: error: Invalid generic resource (gres) specification", ConfigError),
        ("sbatch: unrecognized option '--bogus'", ConfigError),
        ("slurm_msg_sendto: msg_type=4003: Unexpected missing socket error", NotNow),
        # In Slurm's list of errors.
        ("Unable to contact slurm controller (connect failure)", NotNow),
        ("Socket timed out on send/recv operation", NotNow),
        ("Invalid authentication credential", NotNow),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", NotNow),
        ("Invalid account or account/partition combination specified", ConfigError),
        ("Requested time limit is invalid (missing or exceeds some limit)", ConfigError),
    ],
)
def test_a_refusal_of_sbatch_stays_one_or_may_pass(
    tmp_path: Path, said: str, expected: type[Exception]
) -> None:
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho {shlex.quote(said)} >&2\nexit 1\n")
    program.chmod(0o755)
    engine = Slurm(environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with pytest.raises(expected):
        engine.submit(JobRequest("nas-x", "#!/bin/sh\n", "/dev/null", time_limit_s=60.0))


def test_an_engine_that_answers_and_takes_no_job_is_said(cluster: Cluster) -> None:
    cluster.engine.refusal = EngineSilent("nobody knows this error")
    cluster.submit()
    assert cluster.state(60) == "queued" and cluster.engine.submitted == []
    (note,) = cluster.notes
    assert note == "slurm takes no further job now (nobody knows this error); it is tried again"
    cluster.engine.refusal = None
    assert cluster.state(30) == "queued" and len(cluster.engine.submitted) == 1


def test_a_job_that_waits_for_an_unusual_reason_is_said_once(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.engine.listed[name] = ListedJob("queued", "PartitionTimeLimit")
    assert cluster.state(60) == "queued"
    assert cluster.notes == ["run_0000 waits in the queue: PartitionTimeLimit"]


def test_a_training_is_asked_to_end_by_a_file_and_a_job_that_waits_is_taken_back(cluster: Cluster) -> None:
    name = cluster.submit()
    cluster.engine.listed[name] = ListedJob("running")
    cluster.begin()
    cluster.launcher.cancel(cluster.run_dir)
    cluster.state(20)
    assert orders_for(cluster.run_dir, 1) == (True, False) and cluster.engine.killed == []
    cluster.launcher.cancel(cluster.run_dir, force=True)
    cluster.state(20)
    assert orders_for(cluster.run_dir, 1) == (True, True) and cluster.engine.killed == [name]
    assert orders_for(cluster.run_dir, 2) == (False, False), "of another attempt nothing is asked"
    assert cluster.state(40) == "lost"
    second = cluster.submit(2)
    cluster.launcher.cancel(cluster.run_dir)
    cluster.state(20)
    assert cluster.engine.killed[1:] == [second]


def test_a_job_has_the_environment_of_a_training_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    cluster.submit()
    (request,) = cluster.engine.submitted
    assert "sk-secret" not in request.script and "/agents" not in request.script
    log = tmp_path / "with space's.log"
    command = ["python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    script = job_script(command, {"PATH": os.environ["PATH"], "NAME": "a 'b' $c"}, tmp_path, log)
    engines = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-login", "CUDA_VISIBLE_DEVICES": "3,4"}
    subprocess.run(["/bin/sh"], input=script, text=True, env=engines, check=True, timeout=60)
    seen = json.loads(log.read_text())
    assert seen["NAME"] == "a 'b' $c" and seen["CUDA_VISIBLE_DEVICES"] == "3,4"
    assert not [name for name in seen if "KEY" in name or "TMPDIR" in name]
    assert shlex.split(script.splitlines()[-1])[0] == "exec"


def _claim_all(arguments: tuple[str, int]) -> list[int]:
    folder, attempts = arguments
    return [number for number in range(1, attempts + 1) if claim_attempt(Path(folder), number, "slurm")]


@pytest.mark.fault(63)
def test_of_many_that_want_an_attempt_one_has_it(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.map(_claim_all, [(str(tmp_path), 100)] * 4)
    assert sorted(number for numbers in won for number in numbers) == list(range(1, 101))
    assert last_claim(tmp_path) == 100


@pytest.mark.parametrize(
    ("kind", "seconds"), [("ext4", 1.0), ("nfs4", 60.0), ("lustre", 60.0), ("fuse.x", 60.0)]
)
def test_files_of_a_shared_folder_are_given_time_to_show(tmp_path: Path, kind: str, seconds: float) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / {tmp_path} rw shared:1 - {kind} server:/x rw\n"
    )
    assert settle_seconds(tmp_path / "runs", mounts) == seconds
