"""Trainings that claim a score which their weights do not have: none of them ever leads the search.

Everything trains for real, in processes of its own; what a hostile training would do to its folder is done
when it has ended.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import Scripted, drive, search_context
from chaos.series import write_series

from nas_agent_graph.acceptance import is_same_score
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.launchers.verification import Verification
from nas_agent_graph.replay.launcher import RecordedLauncher
from nas_system.config_io.config_file import read_config, write_config
from nas_system.errors import ConfigError, RunError, SearchPaused
from nas_system.files import read_object, sha256_of_file, write_json
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.nas_agent.ledger import Ledger, rebuild_state
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths
from nas_system.processes.work_folder import WorkFolder
from nas_system.space import ForecastingTask, RunConfig
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint

RunCli = Callable[..., Any]
Forge = Callable[[RunPaths], None]
CLAIM = 1e-6


def claim(paths: RunPaths, score: float = CLAIM) -> None:
    metrics = read_object(paths.metrics) | {"val_mse": score, "val_score": score}
    if paths.best_model.is_file():
        metrics["checkpoint_sha256"] = sha256_of_file(paths.best_model)
    write_json(paths.metrics, metrics)


def claims_a_better_score(paths: RunPaths) -> None:
    claim(paths)


def brings_other_weights(paths: RunPaths) -> None:
    shutil.copy(RunPaths(paths.folder.parent / "run_0000").best_model, paths.best_model)
    claim(paths)


def change_weights(paths: RunPaths, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    content = load_checkpoint(paths.best_model)
    content["model"] = {name: change(weights) for name, weights in content["model"].items()}
    save_checkpoint(paths.best_model, content)


def has_weights_of_nan(paths: RunPaths) -> None:
    change_weights(paths, lambda weights: torch.full_like(weights, math.nan))
    claim(paths)


def has_weights_of_another_shape(paths: RunPaths) -> None:
    change_weights(paths, lambda weights: weights[..., :-1].clone())
    claim(paths)


def loses_its_weights(paths: RunPaths) -> None:
    paths.best_model.unlink()
    claim(paths)


def hangs_whoever_reads_its_weights(paths: RunPaths) -> None:
    paths.best_model.unlink()
    (paths.folder / paths.best_model.name).symlink_to("/dev/zero")
    claim(paths)


def trains_something_easier(paths: RunPaths) -> None:
    config = read_config(paths.config)
    easier = config.task.model_copy(update={"pred_len": 1})
    write_config(paths.config, config.model_copy(update={"task": easier}))
    claim(paths)


def lies_about_its_checksum(paths: RunPaths) -> None:
    claim(paths)
    write_json(paths.metrics, read_object(paths.metrics) | {"checkpoint_sha256": "0" * 64})


def does_not_forge(paths: RunPaths) -> None:
    pass


FORGERIES: tuple[tuple[Forge, tuple[str, ...]], ...] = (
    (
        claims_a_better_score,
        ("metrics.json says val_mse 1e-06, best_model.pth gives ", "not that of the weights"),
    ),
    (
        brings_other_weights,
        ("metrics.json says val_mse 1e-06, best_model.pth gives ", "not that of the weights"),
    ),
    (has_weights_of_nan, ("its weights give a mse of nan",)),
    (has_weights_of_another_shape, ("weights are not those of the configuration",)),
    (loses_its_weights, ("there is no checkpoint",)),
    (hangs_whoever_reads_its_weights, ("is a link",)),
    (trains_something_easier, ("config_used.py is not what was proposed",)),
    (lies_about_its_checksum, ("SHA-256 is not '0000",)),
    (does_not_forge, ()),
)
SEARCH = Limits(1 + len(FORGERIES), repeat_base=2, memory_mb=2048)
FORGED_REPEAT = "seed_44"


class Forging(ScriptedLauncher):
    """Trains and scores in forks, waits for their end, and forges what the training has left."""

    def __init__(self, workspace: Path, run_cli: RunCli) -> None:
        super().__init__(lambda config: None)
        self.workspace, self.run_cli = workspace, run_cli
        self.called: list[tuple[str, list[str]]] = []

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        forge = does_not_forge
        if run_dir.parent.name == "runs" and run_dir.name != "run_0000":
            forge = FORGERIES[int(run_dir.name[-4:]) - 1][0]
        if forge in (does_not_forge, brings_other_weights):
            done = self.run_cli(job.command[1], *job.command[2:], cwd=self.workspace)
            assert done.returncode == 0, done.stderr
            work = WorkFolder(run_dir, math.inf)
            assert work.publish() == {}
            work.close(keep=False)
        else:  # what a training would leave, at no cost
            for path in (RunPaths(run_dir).best_model, RunPaths(run_dir).metrics):
                shutil.copy(run_dir.parent / "run_0000" / path.name, path)
        if run_dir.name == FORGED_REPEAT:
            claim(RunPaths(run_dir), 1e6)
        forge(RunPaths(run_dir))
        end = {"schema": 1, "attempt": attempt, "ended": "exited", "returncode": 0, "wall_s": 1.0}
        write_json(RunPaths(run_dir).exit, end)

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        self.called.append((module, list(arguments)))
        done = self.run_cli(module, *arguments, cwd=self.workspace)
        if done.returncode:
            raise (ConfigError if done.returncode == 2 else RunError)(done.stderr)
        return done.stdout


@dataclass(frozen=True)
class Search:
    context: Context
    launcher: Forging

    def run_of(self, forge: Forge) -> RunInfo:
        number = [forgery for forgery, _ in FORGERIES].index(forge)
        return self.context.ledger.state.runs[1 + number]

    def verdict(self, run: RunInfo) -> dict[str, Any]:
        return read_object(self.context.ledger.paths(run.run_id).verdict)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> Search:
    """A search in which run n does what the n-th row of the table says."""
    workspace = tmp_path_factory.mktemp("search")
    write_series(workspace)
    task = ForecastingTask(
        dataset=str(workspace / "series.csv"), targets=("load",), pred_len=6, split=(0.7, 0.15, 0.15)
    )
    launcher = Forging(workspace, run_cli)
    (workspace / "runs").mkdir()
    facts = workspace / "runs" / "task_facts.json"
    launcher.call(
        "nas_system.describe", ["--out", str(facts), "--task-json", task.model_dump_json()], timeout_s=60
    )
    base = RunConfig.model_validate(
        {
            "task": task.model_dump(),
            "model": {"family": "linear"},
            "data": {"features": "S", "seq_len": 24},
            "training": {"max_epochs": 1},
        }
    )
    write_config(workspace / "runs" / "base_config.py", base)
    # The last one learns so much faster that it is better for certain.
    rates = [1e-4 * (1 + number) for number in range(len(FORGERIES) - 1)] + [0.05]
    context = search_context(
        workspace,
        task=task,
        facts=read_object(facts),
        base=base,
        launcher=launcher,
        limits=SEARCH,
        proposer=Scripted(*({"training.lr": rate} for rate in rates)),
        train_command=(
            "python",
            "nas_system.train",
            "--facts",
            str(facts),
            "--device",
            "cpu",
            "--no-pictures",
        ),
        verify=Verification(
            launcher, facts, metric="val_mse", device="cpu", threads=None, memory_mb=SEARCH.memory_mb
        ),
    )
    assert drive(context)["end"] == f"all {SEARCH.max_runs} runs are done"
    return Search(context, launcher)


@pytest.mark.parametrize(
    ("forge", "said"), FORGERIES[:-1], ids=[forge.__name__ for forge, _ in FORGERIES[:-1]]
)
def test_a_forged_score_is_a_bad_result_and_never_leads(
    search: Search, forge: Forge, said: tuple[str, ...]
) -> None:
    run = search.run_of(forge)
    assert (run.status, run.val_score, run.test_score, run.accepted) == ("BAD_RESULT", None, None, False)
    for words in said:
        assert words in (run.cause or ""), run.cause
    [record] = search.verdict(run)["verified"]
    assert record["run"] == run.run_id
    assert record["reported"] == CLAIM


def test_an_honest_run_leads_with_both_scores_on_record(search: Search) -> None:
    state = search.context.ledger.state
    honest = search.run_of(does_not_forge)
    assert (honest.status, honest.accepted, state.best_run_id) == ("OK", True, honest.run_id)
    [record] = search.verdict(honest)["verified"]
    assert record["problem"] is None
    assert record["reported"] == honest.val_score == pytest.approx(record["val_score"], rel=1e-5)


def test_a_forged_repeat_takes_no_part_in_the_noise(search: Search) -> None:
    """A deviation of half a million would keep every later run from leading."""
    state = search.context.ledger.state
    assert state.noise is not None
    assert state.noise < 0.1
    assert state.noise_runs == SEARCH.repeat_base
    records = search.verdict(state.runs[0])["verified"]
    assert len(records) == 1 + SEARCH.repeat_base
    assert [record["run"] for record in records if record["problem"]] == [f"run_0000/repeats/{FORGED_REPEAT}"]
    scored = [arguments for module, arguments in search.launcher.called if module == "nas_system.score"]
    assert scored[0].count("--run") == len(records)


def test_a_state_rebuilt_from_the_runs_is_the_same(search: Search) -> None:
    ledger = search.context.ledger
    rebuilt = rebuild_state(ledger.runs_dir)
    assert rebuilt is not None
    assert (rebuilt.runs, rebuilt.best_run_id) == (ledger.state.runs, ledger.state.best_run_id)
    assert (rebuilt.noise, rebuilt.noise_runs) == (ledger.state.noise, ledger.state.noise_runs)


def test_a_replay_takes_over_what_the_search_computed(search: Search) -> None:
    """Without torch, and without weights, which no recording holds."""
    ledger = search.context.ledger
    replayed = Ledger(Path("replayed"), AgentState())
    recorded = RecordedLauncher(ledger.state, ledger.runs_dir, replayed)
    folders = [replayed.runs_dir / run.run_id for run in ledger.state.runs]
    repeats = [replayed.runs_dir / "run_0000/repeats" / name for name in ("seed_43", FORGED_REPEAT)]
    found = recorded.verify([*folders, *repeats], timeout_s=1)
    assert [again is not None and again.problem is not None for again in found] == [
        *(run.status == "BAD_RESULT" for run in ledger.state.runs),
        *(False, True),
    ]
    assert recorded.verify([replayed.runs_dir / "run_0099"], timeout_s=1) == [None], (
        "an older search checked none"
    )


class Answers(ScriptedLauncher):
    """Answers calls in turn, by module: a text, or an error that it raises."""

    def __init__(self, **answers: list[str | Exception]) -> None:
        super().__init__(lambda config: None)
        self.answers = {module: iter(texts) for module, texts in answers.items()}

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        answer = next(self.answers[module.rpartition(".")[2]])
        if isinstance(answer, Exception):
            raise answer
        return answer


def verify(launcher: Answers, *names: str) -> list[tuple[float | None, str | None]]:
    check = Verification(
        launcher, Path("facts.json"), metric="val_mse", device="cpu", threads=None, memory_mb=None
    )
    found = check([Path(name) for name in names], timeout_s=1)
    return [(recomputed.score, recomputed.problem) for recomputed in found]


def answer(*runs: dict[str, Any]) -> str:
    return "a library says hello\n" + json.dumps({"part": "val", "runs": list(runs)})


GOOD = {"val_mse": 0.05, "samples": 10}
KILLED = RunError("nas_system.score ended with exit code -9: it printed nothing")


def test_one_killed_process_is_no_reason_to_refuse_a_score() -> None:
    assert verify(Answers(score=[KILLED, answer(GOOD)]), "run_0001") == [(0.05, None)]


def test_only_the_run_that_kills_its_process_twice_is_refused() -> None:
    launcher = Answers(score=[KILLED, answer(GOOD), KILLED], describe=["ok"])
    [good, bad] = verify(launcher, "run_0000", "run_0000/repeats/seed_43")
    assert good == (0.05, None)
    assert bad[0] is None
    assert "cannot be evaluated, tried twice" in (bad[1] or "")


@pytest.mark.parametrize("strange", ["", "no JSON", answer(), answer({"val_mse": "0.05", "samples": 1})])
def test_an_answer_without_a_score_is_no_score(strange: str) -> None:
    [(score, problem)] = verify(Answers(score=[strange, strange], describe=["ok"]), "run_0001")
    assert score is None
    assert "tried twice" in (problem or "")


@pytest.mark.parametrize(
    "launcher",
    [
        Answers(score=[ConfigError("series.csv has changed since the search began")]),
        Answers(
            score=[RunError("cannot start python: Too many open files")] * 2, describe=[RunError("same")]
        ),
    ],
    ids=["data", "processes"],
)
def test_a_search_pauses_where_the_machine_is_to_blame(launcher: Answers) -> None:
    with pytest.raises(SearchPaused, match=r"run_0001 cannot be checked: .* give the same command again"):
        verify(launcher, "run_0001")


@pytest.mark.parametrize(
    ("metric", "reported", "computed", "samples", "same"),
    [
        ("val_mse", 0.05, 0.05004, 100, True),
        ("val_mse", 0.05, 0.0502, 100, False),
        ("val_mse", 0.0, 5e-7, 100, True),
        ("val_accuracy", 0.5, 0.51, 100, True),
        ("val_accuracy", 0.5, 0.53, 100, False),
    ],
)
def test_a_score_may_differ_by_rounding_or_by_one_sample(
    metric: str, reported: float, computed: float, samples: int, same: bool
) -> None:
    assert is_same_score(metric, reported, computed, samples) is same
