"""Every way a training can end, once each, through one real search: real processes, real supervisors.

A small program stands in for the trainer and ends as the table says. What is checked is what the search
makes of it: the status, the cause, how often it was tried, and who gets to read about it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from builders import drive, search_context

from nas_agent_graph.context import Context, Limits, Proposal, SearchView
from nas_agent_graph.launchers.local import LocalLauncher
from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_system.nas_agent.agent_state import RunInfo
from nas_system.processes.job import Job
from nas_system.processes.run_lock import is_alive, supervisor_of
from nas_system.space import canonical_key, changes_between

STAND_IN = """\
import errno, json, os, pathlib, signal, sys, time
option = dict(zip(sys.argv, sys.argv[1:]))
here = pathlib.Path(option["--output-dir"])
# What is kept of a training that can go on counts the attempts.
with open(here / "last.pth", "a") as file:
    file.write("x")
attempt = (here / "last.pth").stat().st_size
def write(name, **values):
    (here / name).write_text(json.dumps(values))
exec(json.loads(pathlib.Path(sys.argv[1]).read_text())[option["--tag"]])
"""
FAIL_LIKE_THE_TRAINER = """\
from nas_system.train import record_failure
try:
    {statement}
except Exception as error:
    sys.exit(record_failure(here, error))
"""
GOOD = "write('metrics.json', val_mse=0.05, test_mse=0.0625)"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@dataclass(frozen=True)
class End:
    """A training by what it does, and what the search has to make of it."""

    code: str
    status: str
    said: tuple[str, ...] = ()
    """What the cause says."""
    starts: int = 1
    limits: dict[str, Any] = field(default_factory=dict)


def trainer_fails(statement: str) -> str:
    return FAIL_LIKE_THE_TRAINER.format(statement=statement)


def bad_metrics(content: str, complaint: str) -> End:
    code = f"(here / 'metrics.json').write_text({content!r})"
    return End(code, "BAD_RESULT", ("metrics.json", complaint))


SUDDEN = {"time_limit_s": 0.8, "grace_s": 0.2}
ENDS = {
    "good": End(GOOD, "OK"),
    "raises": End("raise KeyError('OT')", "FAILED", ("exit code 1: KeyError: 'OT'",)),
    "aborts": End("os.abort()", "KILLED", ("signal 6 (SIGABRT)",)),
    "segmentation fault": End("os.kill(os.getpid(), signal.SIGSEGV)", "KILLED", ("signal 11 (SIGSEGV)",)),
    "killed each time": End("os.kill(os.getpid(), 9)", "KILLED", ("signal 9 (SIGKILL)",), starts=2),
    "killed once": End(f"{GOOD} if attempt == 2 else os.kill(os.getpid(), 9)", "OK", starts=2),
    "lost": End("time.sleep(60)", "LOST", ("the supervisor ended",), starts=2),
    "stopped once": End(f"{GOOD} if attempt == 2 else sys.exit(5)", "OK", starts=2),
    "stops each time": End("sys.exit(5)", "STOPPED", ("exit code 5",), starts=2),
    "diverged": End(
        "write('history.json', epochs=[{'epoch': 3}])\n"
        + trainer_fails("from nas_system.errors import Diverged; raise Diverged('loss is NaN', {'step': 7})"),
        "DIVERGED",
        ("loss is NaN", "epoch 3", "step 7", " MiB"),
    ),
    "time-out, deaf to SIGTERM": End(
        DEAF, "TIMEOUT", ("hard time limit", "it hung", "less width"), limits=SUDDEN
    ),
    "hangs": End("time.sleep(60)", "HUNG", ("no output",), limits={"silence_limit_s": 0.6, "grace_s": 0.2}),
    "out of host memory": End(
        "x = bytearray(150 * 2**20); time.sleep(60)",
        "OOM_HOST",
        (" MiB, more than the limit", "reduce batch_size"),
        limits={"memory_limit_mb": 120},
    ),
    "out of host memory, noticed": End(
        trainer_fails("raise MemoryError"), "OOM_HOST", ("out of memory: reduce data.batch_size",)
    ),
    "out of GPU memory": End(
        trainer_fails("import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried 2 GiB')"),
        "OOM_GPU",
        ("out of GPU memory", "halve data.batch_size", "Tried 2 GiB"),
    ),
    "disk full": End(
        trainer_fails("raise OSError(errno.ENOSPC, 'No space left on device', 'best_model.pth')"),
        "DISK_FULL",
        ("best_model.pth",),
        starts=2,  # once more where there is space again
    ),
    "exit 0 without metrics": End("pass", "BAD_RESULT", ("wrote no metrics.json",)),
    "exit 1 with metrics": End(f"{GOOD}; sys.exit(1)", "FAILED", ("exit code 1",)),
    "metrics truncated": bad_metrics('{"val_mse": 0.0', "is not JSON"),
    "a score of NaN": bad_metrics('{"val_mse": NaN}', "not finite: nan"),
    "a negative score": bad_metrics('{"val_mse": -0.01}', "negative val_mse: -0.01"),
    "a huge score": bad_metrics('{"val_mse": 1e999}', "not finite: inf"),
}
NAMES = list(ENDS)
RUN_OF = {name: f"run_{number:04d}" for number, name in enumerate(NAMES)}
ROW_OF_STATUS = {
    **{"OK": 16, "FAILED": 16, "KILLED": 17, "OOM_HOST": 18, "OOM_GPU": 19, "HUNG": 20, "TIMEOUT": 21},
    **{"DIVERGED": 24, "BAD_RESULT": 25, "DISK_FULL": 9, "LOST": 4, "STOPPED": 4},
}


class Repeating:
    """Random search, but after a run out of memory it first proposes the same configuration again."""

    name = "repeating"

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self.refusals: list[str] = []
        self.views: list[SearchView] = []

    def propose(self, view: SearchView) -> Proposal:
        self.views.append(view)
        self.refusals += view.refused
        last = view.runs[-1]
        if last.status.startswith("OOM") and not view.refused and last.config is not None:
            self.repeated.append(last.run_id)
            return Proposal(self.name, "run_0000", tuple(changes_between(view.base, last.config)))
        return RandomSearchProposer().propose(view)


class Hurried(LocalLauncher):
    """The local launcher; a few runs get limits that a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        self.jobs[run_dir.name] = job
        name = NAMES[int(run_dir.name.removeprefix("run_"))]
        super().submit(run_dir, replace(job, **ENDS[name].limits), attempt)
        if name == "lost":
            starts = run_dir / "work/last.pth"
            while not starts.exists() or starts.stat().st_size < attempt:
                time.sleep(0.01)
            supervisor = supervisor_of(run_dir)
            assert supervisor is not None
            supervisor.send(signal.SIGKILL)


@dataclass(frozen=True)
class Search:
    workspace: Path
    context: Context
    proposer: Repeating
    launcher: Hurried

    def run(self, name: str) -> RunInfo:
        return self.context.ledger.state.runs[NAMES.index(name)]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """One search in which run n ends as the n-th row of the table."""
    workspace = tmp_path_factory.mktemp("search")
    (workspace / "stand_in.py").write_text(STAND_IN)
    ends = {RUN_OF[name]: end.code for name, end in ENDS.items()}
    (workspace / "ends.json").write_text(json.dumps(ends))
    proposer, launcher = Repeating(), Hurried()
    context = search_context(
        workspace,
        proposer=proposer,
        launcher=launcher,
        limits=Limits(len(ENDS), repeat_base=0, silence_seconds=600.0, memory_mb=4096),
        train_command=(sys.executable, str(workspace / "stand_in.py"), str(workspace / "ends.json")),
    )
    final = drive(context)
    assert final["end"] == f"all {len(ENDS)} runs are done"
    return Search(workspace, context, proposer, launcher)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(ROW_OF_STATUS[ENDS[name].status])) for name in NAMES]
)
def test_an_end_has_its_status_its_cause_and_its_number_of_attempts(search: Search, name: str) -> None:
    end, run = ENDS[name], search.run(name)
    assert (run.status, run.val_mse) == (end.status, 0.05 if end.status == "OK" else None), run.cause
    for words in end.said:
        assert words in (run.cause or "")
    assert len(run.cause or "") <= 200
    assert len((search.workspace / "runs" / run.run_id / "work/last.pth").read_text()) == end.starts
    assert not is_alive(search.workspace / "runs" / run.run_id)


@pytest.mark.fault(16, 26)
def test_only_good_ends_have_a_score_and_can_be_the_best(search: Search) -> None:
    state = search.context.ledger.state
    assert [run.run_id for run in state.runs] == list(RUN_OF.values())
    assert {run.run_id for run in state.runs if run.accepted} == {"run_0000"}
    assert state.best_run_id == "run_0000"
    assert {run.status for run in state.runs if run.val_mse is not None} == {"OK"}


@pytest.mark.fault(16, 17, 18, 19, 20, 21)
def test_a_proposer_reads_status_cause_and_numbers_of_every_failure(search: Search) -> None:
    view = search.context.view("run_0099")
    for run, shown in zip(search.context.ledger.state.runs, view.runs, strict=True):
        assert (shown.status, shown.cause) == (run.status, run.cause)
        assert shown.val_score is None or shown.status == "OK"
    # The prompt shows the latest failures; each of them was the latest once.
    for number, name in enumerate(NAMES[:-1]):
        seen = replace(view, runs=view.runs[: number + 1])
        prompt = opening_messages(seen)[-1]["content"]
        for words in ENDS[name].said:
            assert json.dumps(words, ensure_ascii=False)[1:-1] in prompt, name


@pytest.mark.fault(18, 19, 32)
def test_what_ran_out_of_memory_is_never_trained_again(search: Search) -> None:
    runs = search.context.ledger.state.runs
    out_of_memory = [run for run in runs if run.status.startswith("OOM")]
    assert search.proposer.repeated == [run.run_id for run in out_of_memory]
    for run in out_of_memory:
        refusals = [text for text in search.proposer.refusals if f"configuration of {run.run_id}" in text]
        assert refusals and f"{run.status}, no score" in refusals[0]
    configs = [search.context.ledger.config(run.run_id) for run in runs]
    assert len({canonical_key(config) for config in configs if config}) == len(runs)


@pytest.mark.fault(18, 20)
def test_every_training_runs_under_the_limits_of_its_search(search: Search) -> None:
    assert set(search.launcher.jobs) == set(RUN_OF.values())
    for job in search.launcher.jobs.values():
        assert (job.silence_limit_s, job.memory_limit_mb) == (600.0, 4096)
        # The trainer knows it too, so that what cannot fit is refused before an epoch is paid for.
        assert job.command[job.command.index("--memory-limit") + 1] == "4096"


@pytest.mark.fault(18)
def test_a_classical_sampler_counts_failures_of_a_configuration_as_the_worst_scores(search: Search) -> None:
    view = search.context.view("run_0099")

    def proposals(status_of_outside: str) -> list[Any]:
        """Over thirty seeds, if the runs that ended from outside had ended so."""
        runs = [replace(run, status=status_of_outside) if run.status in outside else run for run in view.runs]
        views = [replace(view, runs=tuple(runs), seed=seed) for seed in range(30)]
        return [TPEProposer().propose(view).changes for view in views]

    outside = {"KILLED", "LOST", "DISK_FULL"}
    assert proposals("LOST") == proposals("KILLED") == proposals("DISK_FULL")
    assert proposals("LOST") != proposals("OOM_HOST") == proposals("DIVERGED")


@pytest.mark.fault(16, 18, 21)
def test_show_and_the_report_name_every_end(search: Search, run_cli: Any) -> None:
    board = json.loads(run_cli("nas_agent_graph.show", "--json", cwd=search.workspace).stdout)
    assert {run["run_id"]: run["cause"] for run in board["failed"]} == {
        run.run_id: run.cause for run in search.context.ledger.state.runs if run.status != "OK"
    }
    for name in ("out of host memory", "time-out, deaf to SIGTERM", "diverged"):
        done = run_cli("nas_agent_graph.show", RUN_OF[name], cwd=search.workspace, env={"COLUMNS": "300"})
        assert done.returncode == 0, done.stderr
        assert f"{RUN_OF[name]}: {ENDS[name].status}, no score" in done.stdout
        for words in ENDS[name].said:
            assert words in done.stdout
    done = run_cli("nas_agent_graph.report", cwd=search.workspace)
    assert done.returncode == 0, done.stderr
    page = (search.workspace / "report.html").read_text()
    for name, end in ENDS.items():
        assert end.status in page
        for words in end.said:
            assert words.replace("'", "\\u0027") in page or words in page, name
