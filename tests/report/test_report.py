"""`python -m nas_agent_graph.report` as people call it, and the record that the page is drawn from."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import task_info

from nas_agent_graph.report.conversation import conversation_of, fair_cap, shortened
from nas_agent_graph.report.data import Limits, printable_json, report_record
from nas_agent_graph.report.html import embedded_json, render
from nas_agent_graph.report.pictures import embed_pictures
from nas_system.config_io.config_file import write_config
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState, RunInfo, RunInProgress, add_run, save_agent_state
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.nas_agent.workspace_lock import WorkspaceLock
from nas_system.space import Change, ForecastingTask, RunConfig, apply_changes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCE = {"name": "ETTh1", "kind": "file", "path": None, "sha256": "f18de3ad269cef59", "notice": None}
INFO = task_info([{"name": "nlinear-336", "val_mse": 0.049, "test_mse": 0.026}])
CHANGE = Change(parameter="model.d_model", value=64)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 640, 480) + bytes(1000)
Cli = Callable[..., subprocess.CompletedProcess[str]]


def add(workspace: Path, state: AgentState, number: int, score: float | None, **fields: Any) -> AgentState:
    """A finished run and what it leaves in its folder."""
    run_id = f"run_{number:04d}"
    run = RunInfo(run_id=run_id, val_mse=score, family="informer", seconds=12.0, **fields)
    paths = RunPaths(workspace / "runs" / run_id)
    paths.folder.mkdir(parents=True)
    write_config(paths.config, apply_changes(RunConfig(), [CHANGE]) if number else RunConfig())
    write_json(
        paths.proposal,
        {
            "proposer": run.proposer,
            "parent": run.parent,
            "hypothesis": "wider",
            "expected_val_mse": 0.05 if run.proposer == "llm:m" else None,
            "changes": [CHANGE.model_dump()] if number else [],
            "attempt": 1,
        },
    )
    epochs = [
        {"epoch": n, "train_mse": 0.1, "val_mse": 0.06 + abs(n - 500) / 1e4, "lr": 0.1} for n in range(1000)
    ]
    write_json(paths.history, {"best_epoch": 500, "epochs": epochs}, indent=None)
    write_json(
        paths.verdict, {"accepted": run.accepted, "reason": "0.01 below run_0000", "against": "run_0000"}
    )
    paths.log.write_text("epoch 0\nthe end\n")
    return add_run(state, run)


@pytest.fixture
def state(tmp_path: Path) -> AgentState:
    """A base config, the best run, a failed run, and one running."""
    state = AgentState(max_runs=10, task=ForecastingTask(), data=SOURCE, leads_by="margin")
    state = state.replace(noise=0.002, noise_runs=3)
    state = add(tmp_path, state, 0, 0.06, accepted=True, proposer="base config")
    state = add(tmp_path, state, 1, 0.05, accepted=True, parent="run_0000", proposer="llm:m", test_mse=0.025)
    state = add(tmp_path, state, 2, None, status="OOM_GPU", cause="24 GiB", parent="run_0000", proposer="tpe")
    state = state.replace(
        in_progress=(RunInProgress(run_id="run_0003", step="launch_training"),), hold_out={"run_0001": 0.0312}
    )
    write_json(tmp_path / "runs/task_facts.json", INFO.to_json())
    save_agent_state(state, tmp_path / "agent_state.json")
    return state


def record_of(workspace: Path, state: AgentState, limits: Limits | None = None) -> dict[str, Any]:
    return report_record(workspace, state, INFO, now=NOW, limits=limits)


def say(workspace: Path, run_id: str, *events: dict[str, Any]) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    RunPaths(workspace / "runs" / run_id).transcript.write_text(lines)


# --- the record -----------------------------------------------------------------------------


def test_the_record_tells_of_every_run_and_what_it_changed(tmp_path: Path, state: AgentState) -> None:
    record = record_of(tmp_path, state)
    base, best_run, failed, current = record["runs"]
    assert [run["run_id"] for run in record["runs"]] == ["run_0000", "run_0001", "run_0002", "run_0003"]
    assert best_run["is_best_run"] and not base["is_best_run"]
    assert best_run["changes"] == [{"parameter": "model.d_model", "old": "32", "new": "64"}]
    assert (base["delta"], base["delta_noise"]) == (pytest.approx(0.01), pytest.approx(5.0))
    assert (failed["status"], failed["delta"]) == ("OOM_GPU", None)
    assert current["running"] and current["step"] == "launch_training"
    assert (best_run["expected"], best_run["verdict"]) == (0.05, "0.01 below run_0000")
    assert failed["log"].splitlines()[-1] == "the end"


def test_a_run_that_was_stopped_early_is_counted_apart_from_failures(
    tmp_path: Path, state: AgentState
) -> None:
    cause = "stopped early at epoch 4 of 8 at val_mse 0.061200, 22 % above run_0001 (rule margin)"
    state = add(tmp_path, state, 3, None, status="PRUNED", cause=cause, proposer="tpe")
    record = record_of(tmp_path, state)
    assert (record["search"]["pruned"], record["search"]["failed"]) == (1, 1)
    assert "1 run stopped early, up to 4 epochs saved" in [
        line["text"] for line in record["search"]["remarks"]
    ]
    pruned = record["runs"][3]
    assert (pruned["status"], pruned["cause"], pruned["val_score"]) == ("PRUNED", cause, None)


def test_the_record_warns_when_simple_forecasts_are_better(tmp_path: Path, state: AgentState) -> None:
    search = record_of(tmp_path, state)["search"]
    (warning,) = [line["text"] for line in search["remarks"] if line["tone"]]
    assert "run_0001 (0.05000) does not beat simple forecasts: nlinear-336 by 0.00100" in warning
    assert (search["best"], search["hold_out"], search["failed"]) == (0.05, 0.0312, 1)
    assert [text.partition(":")[0] for text in search["calibration"]] == ["Predictions by llm"]


def accuracy(mae: float, steps: int) -> dict[str, Any]:
    """Errors that grow by a tenth of their mean with every step."""
    per_step = [mae * (1 + n / 10) for n in range(steps)]
    totals = {"mase": 0.5, "smape": 10.0, "rmse": 2 * mae, "mae": mae}
    return {**totals, "per_step": {"mae": per_step, "rmse": per_step}}


def test_errors_in_the_units_of_the_data_are_told_of_every_run_and_baseline(
    tmp_path: Path, state: AgentState
) -> None:
    parts = {"val": accuracy(3.0, 24), "test": accuracy(4.0, 24)}
    write_json(RunPaths(tmp_path / "runs/run_0001").metrics, {"accuracy": parts})
    names = ("theta", "nlinear-336", "drift", "ets", "last-value")
    rows = [
        {"name": name, "val_mse": 0.05 + place / 100, "accuracy": {"val": accuracy(5.0, 24)}}
        for place, name in enumerate(names)
    ]
    info = task_info([*rows, {"name": "unmeasured", "val_mse": 0.01}])
    record = report_record(tmp_path, state, info, now=NOW)
    totals = {"mase": 0.5, "smape": 10.0, "rmse": 6.0, "mae": 3.0}
    assert record["runs"][1]["accuracy"]["val"] == totals
    assert record["baselines"][0]["accuracy"]["val"] == totals | {"rmse": 10.0, "mae": 5.0}
    drawn = record["per_step"]
    assert [line["name"] for line in drawn["val"]] == ["run_0001", *names[:3]]
    assert [line["name"] for line in drawn["test"]] == ["run_0001"]
    assert drawn["test"][0] == {
        "name": "run_0001",
        "role": "run",
        "step": list(range(1, 25)),
        "mae": parts["test"]["per_step"]["mae"],
    }
    assert record["recommended"] is None


def test_what_the_search_hands_over_is_drawn_next_to_the_best_run(tmp_path: Path, state: AgentState) -> None:
    def part(mae: float) -> dict[str, Any]:
        return {"mse": 0.04, "mae": 0.1, "windows": 9, "accuracy": accuracy(mae, 1_000)}

    metrics = {"accuracy": {"val": accuracy(3.0, 1_000), "test": accuracy(3.0, 1_000)}}
    write_json(RunPaths(tmp_path / "runs/run_0001").metrics, metrics)
    evaluation = {"as_searched": {"val": part(2.0), "test": part(2.5)}, "refitted": {"test": part(1.5)}}
    file = tmp_path / "runs/recommended.json"
    write_json(file, {"recommended": "ensemble", "evaluation": evaluation})
    record = record_of(tmp_path, state)
    lines = {
        part: [(line["name"], line["role"], line["mae"][0]) for line in lines]
        for part, lines in record["per_step"].items()
    }
    run, as_searched = ("run_0001", "run", 3.0), ("ensemble", "recommended")
    assert lines["val"] == [run, (*as_searched, 2.0)]
    assert lines["test"] == [run, (*as_searched, 2.5), ("ensemble, refitted", "refitted", 1.5)]
    assert record["per_step"]["val"][0]["step"] == list(range(1, 1_001, 3))
    assert record["recommended"]["refitted"]["test"]["mae"] == 1.5
    # The best run itself: its own line is there already.
    write_json(file, {"recommended": "run_0001", "evaluation": evaluation})
    names = [line["name"] for line in record_of(tmp_path, state)["per_step"]["test"]]
    assert names == ["run_0001", "run_0001, refitted"]


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        '{"recommended": ["x"], "evaluation": {}}',
        '{"recommended": "x", "evaluation": {"as_searched": [], "refitted": {"test": {"accuracy": "none"}}}}',
        '{"recommended": "\\u202ex", "evaluation": {"refitted": {"test": 3, "val": {"accuracy": {}}}}}',
    ],
)
def test_an_edited_recommendation_costs_its_own_lines_only(
    tmp_path: Path, state: AgentState, content: str
) -> None:
    write_json(RunPaths(tmp_path / "runs/run_0001").metrics, {"accuracy": {"val": accuracy(3.0, 24)}})
    (tmp_path / "runs/recommended.json").write_text(content)
    drawn = record_of(tmp_path, state)["per_step"]
    assert [line["name"] for line in drawn["val"]] == ["run_0001"] and drawn["test"] == []


def test_long_curves_keep_their_best_epoch(tmp_path: Path, state: AgentState) -> None:
    curve = record_of(tmp_path, state)["runs"][0]["curve"]
    assert (curve["epochs"], curve["best"]) == (1000, 500)
    assert len(curve["epoch"]) == 400
    assert min(curve["val"]) == 0.06
    assert curve["epoch"][curve["val"].index(0.06)] == 500


def test_spoiled_files_cost_what_they_held_and_no_more(tmp_path: Path, state: AgentState) -> None:
    paths = RunPaths(tmp_path / "runs/run_0001")
    for path in (paths.proposal, paths.history, paths.verdict, paths.config, paths.log, paths.transcript):
        path.write_bytes(b'{"torn": \xff\x00')
    paths.predictions.mkdir()
    record = record_of(tmp_path, state)
    embed_pictures(record["runs"], tmp_path / "runs", "minimize")
    run = record["runs"][1]
    assert (run["val_score"], run["curve"], run["config"]) == (0.05, None, {})
    (told,) = run["conversation"]
    assert told["text"] == "transcript.jsonl: 1 of its lines cannot be read and are skipped"
    assert run["pictures"] == [{"name": "predictions.png", "left_out": "is not a file"}]
    json.dumps(record, allow_nan=False)


def test_what_cannot_be_read_or_written_down_is_made_harmless() -> None:
    hostile = {"a": "\x1b[31m\u202e\ud800\u0007é日\n\t", "b": [float("nan"), float("inf"), 1.5], "c": None}
    clean = printable_json(hostile)
    assert clean == {"a": "�[31m���é日\n\t", "b": [None, None, 1.5], "c": None}
    json.dumps(clean, allow_nan=False, ensure_ascii=False).encode()


# --- conversations --------------------------------------------------------------------------

SYSTEM, ASKED = {"role": "system", "content": "be good"}, {"role": "user", "content": "propose"}
ANSWER, REPAIR = {"role": "assistant", "content": "prose"}, {"role": "user", "content": "no JSON"}


def test_every_word_of_a_conversation_is_shown_once(tmp_path: Path, state: AgentState) -> None:
    events = (
        {"kind": "request", "messages": [SYSTEM, ASKED]},
        {
            "kind": "response",
            "text": "prose",
            "usage": {"input_tokens": 10, "output_tokens": 2},
            "cost_usd": 0.5,
        },
        {"kind": "request", "messages": [SYSTEM, ASKED, ANSWER, REPAIR]},
        {
            "kind": "response",
            "text": "{}",
            "usage": {"input_tokens": 20, "output_tokens": 3},
            "refusal": "I won't",
        },
        {"kind": "fallback", "reason": "two repairs failed"},
    )
    say(tmp_path, "run_0001", *events)
    say(tmp_path, "run_0002", *events[:2])
    first, second = record_of(tmp_path, state)["runs"][1:3]
    said = [(message["role"], message["text"]) for message in first["conversation"]]
    assert said == [
        ("system", "be good"),
        ("user", "propose"),
        ("assistant", "prose"),
        ("refusal", "no JSON"),
        ("assistant", "{}"),
        ("declined", "I won't"),
        ("event", "two repairs failed"),
    ]
    assert (first["tokens"], first["cost"]) == (35, 0.5)
    assert second["conversation"][0] | {"ts": None} == {
        "role": "system",
        "text": "",
        "same_as": "run_0001",
        "ts": None,
    }


def test_a_refusal_that_stands_in_the_transcript_is_not_said_twice(tmp_path: Path, state: AgentState) -> None:
    say(
        tmp_path,
        "run_0001",
        {"kind": "request", "messages": [SYSTEM, ASKED]},
        {
            "kind": "response",
            "text": "prose",
            "warning": "the context was cut",
            "answer_format": "json_object",
        },
        {"kind": "refused", "reason": "there is no JSON"},
        {
            "kind": "request",
            "messages": [SYSTEM, ASKED, ANSWER, {"role": "user", "content": "there is no JSON!"}],
        },
        {"kind": "response", "text": "again prose"},
        {"kind": "refused", "reason": "there is no JSON"},
        {"kind": "fallback", "proposer": "tpe"},
    )
    talk = record_of(tmp_path, state)["runs"][1]["conversation"]
    roles = [message["role"] for message in talk]
    assert roles == ["system", "user", "assistant", "event", "refusal", "assistant", "refusal", "event"]
    assert talk[2]["format"] == "json_object"
    assert (talk[3]["text"], talk[-1]["text"]) == ("the context was cut", "tpe stepped in for the model")


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "request", "messages": "not a list"},
        {"kind": "request", "messages": [None, {"role": 3, "content": [{"type": "text"}]}]},
        {"kind": "response", "text": None, "usage": {"input_tokens": -5, "output_tokens": "7"}},
        {"kind": None, "messages": {}},
        {},
    ],
)
def test_strange_events_are_shown_as_well_as_they_can_be(tmp_path: Path, event: dict[str, Any]) -> None:
    (tmp_path / "run_0000").mkdir()
    RunPaths(tmp_path / "run_0000").transcript.write_text(json.dumps(event) + "\n[]\n{torn")
    talk = conversation_of(tmp_path, "run_0000", {})
    assert talk.tokens == 0
    assert all(isinstance(message["text"], str) for message in talk.messages)


def test_long_prompts_are_cut_and_answers_stay_whole(tmp_path: Path, state: AgentState) -> None:
    question = {"role": "user", "content": "begin" + "x" * 50_000 + "end"}
    say(
        tmp_path,
        "run_0001",
        {"kind": "request", "messages": [question]},
        {"kind": "response", "text": "y" * 900},
    )
    record = record_of(tmp_path, state, Limits(conversation_characters=5_000))
    asked, answered = record["runs"][1]["conversation"]
    assert answered["text"] == "y" * 900
    assert len(asked["text"]) < 4_300
    assert asked["text"].startswith("begin") and asked["text"].endswith("end")
    assert record["left_out"]["characters"] == asked["left_out"] == 50_008 - 4_100


@pytest.mark.parametrize(
    ("lengths", "budget", "cap"),
    [([], 10, 0), ([5, 5], 10, 5), ([1, 9, 9], 11, 5), ([4, 100, 1], 1000, 100), ([7, 7], 0, 0)],
)
def test_the_cap_shares_out_what_there_is(lengths: list[int], budget: int, cap: int) -> None:
    assert fair_cap(lengths, budget) == cap
    assert sum(min(length, cap) for length in lengths) <= budget


def test_a_shortened_text_says_how_much_is_missing() -> None:
    text, cut = shortened("a" * 600 + "b" * 600, 300)
    assert cut == 900
    assert text == "a" * 200 + "\n… 900 characters left out …\n" + "b" * 100
    assert shortened("short", 300) == ("short", 0)


class R2(ForecastingTask):
    """A task whose metric is maximized."""

    metric_name = "r2"
    direction = "maximize"


def test_a_maximized_metric_turns_best_epochs_and_pictures_around(tmp_path: Path) -> None:
    state = AgentState(max_runs=10, task=R2(), data=SOURCE, noise=0.5, noise_runs=3)
    for number, score in enumerate((70.0, 91.5, 80.0)):
        state = add(tmp_path, state, number, score, accepted=number == 1)
        paths = RunPaths(tmp_path / f"runs/run_{number:04d}")
        paths.predictions.write_bytes(PNG)
        epochs = [{"train_r2": 99.0, "val_r2": score - abs(n - 500) / 10} for n in range(1000)]
        write_json(paths.history, {"best_epoch": 500, "epochs": epochs}, indent=None)
    state = state.replace(best_run_id="run_0001")
    info = task_info([{"name": "majority", "val_r2": 92.0}])
    record = report_record(tmp_path, state, info, now=NOW)
    assert (record["search"]["direction"], record["search"]["best"]) == ("maximize", 91.5)
    assert "the highest val_r2 on scaled data wins" in record["search"]["goal"]
    assert "is WORSE than simple forecasts: majority by 0.50000" in str(record["search"]["remarks"])
    runs = record["runs"]
    assert [run["delta"] for run in runs] == [-21.5, 0.0, -11.5]
    curve = runs[0]["curve"]
    assert (curve["best"], max(curve["val"]), len(curve["val"])) == (500, 70.0, 400)
    assert embed_pictures(runs, tmp_path / "runs", "maximize", total_bytes=2 * len(PNG))["pictures"] == 1
    assert ["data" in run["pictures"][0] for run in runs] == [False, True, True]


# --- pictures -------------------------------------------------------------------------------


def test_the_best_runs_pictures_come_first_and_the_rest_is_counted(tmp_path: Path, state: AgentState) -> None:
    for number in (0, 1, 2):
        RunPaths(tmp_path / f"runs/run_{number:04d}").predictions.write_bytes(PNG)
    runs = record_of(tmp_path, state)["runs"]
    missed = embed_pictures(runs, tmp_path / "runs", "minimize", total_bytes=len(PNG) + 5)
    assert missed == {"pictures": 2, "picture_bytes": 2 * len(PNG)}
    assert base64.b64decode(runs[1]["pictures"][0]["data"]) == PNG
    assert (runs[1]["pictures"][0]["width"], runs[1]["pictures"][0]["height"]) == (640, 480)
    assert "size" in runs[0]["pictures"][0]["left_out"]


def test_only_a_png_is_embedded(tmp_path: Path, state: AgentState) -> None:
    RunPaths(tmp_path / "runs/run_0001").predictions.write_text("<svg onload='alert(1)'>")
    runs = record_of(tmp_path, state)["runs"]
    embed_pictures(runs, tmp_path / "runs", "minimize")
    assert runs[1]["pictures"] == [{"name": "predictions.png", "left_out": "is not a PNG"}]


# --- the page -------------------------------------------------------------------------------


@pytest.mark.fault(42)
def test_no_string_can_end_the_data() -> None:
    hostile = {"</script>": "<!--<script>&amp;\u2028]]>"}
    text = embedded_json(hostile)
    assert not set("<>&") & set(text)
    assert json.loads(text) == hostile


@pytest.mark.fault(42)
def test_the_policy_names_the_one_script_and_the_one_style(tmp_path: Path, state: AgentState) -> None:
    page = render(record_of(tmp_path, state) | {"folder": "runs"}, "plain <b>text</b>")
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for text in (script, style):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert "plain &lt;b&gt;text" in page
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", page.partition("<style>")[0]) == []


@pytest.mark.fault(42)
def test_the_scripts_never_parse_text_as_markup(project_root: Path) -> None:
    parsing = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc"
    )
    scripts = sorted((project_root / "nas_agent_graph/report/assets").glob("*.js"))
    assert len(scripts) == 8
    assert [path.name for path in scripts if parsing.search(path.read_text(encoding="utf-8"))] == []


# --- the command ----------------------------------------------------------------------------


def test_the_command_writes_one_file_into_the_workspace(
    tmp_path: Path, state: AgentState, run_cli: Cli
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = run_cli("nas_agent_graph.report", "--workspace", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"wrote \S+/report\.html \(\d\.\d MB, 4 runs\)\n", done.stdout)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "report.html"}
    assert {path for path in after if path.is_file()} == {path for path in before if path.is_file()}
    assert all(after[path] == before[path] for path in before if path != tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    record = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert (record["live"], record["folder"], len(record["runs"])) == (False, "runs", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "agent_state.json"], "does not end in .html"),
        (["--out", "nowhere/report.html"], "cannot be written"),
        (["--watch", "0"], "not a number of seconds"),
        (["--workspace", "empty"], "there is no search"),
    ],
)
def test_bad_input_ends_with_what_to_do(
    tmp_path: Path, state: AgentState, run_cli: Cli, arguments: list[str], message: str
) -> None:
    done = run_cli("nas_agent_graph.report", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_watching_sees_each_run_in_progress(tmp_path: Path, state: AgentState, project_root: Path) -> None:
    out = tmp_path / "report.html"
    run_ids = ["run_0003", "run_0004", "run_0005"]
    runs = tuple(RunInProgress(run_id=run_id, step="launch_training") for run_id in run_ids)
    save_agent_state(state.replace(in_progress=runs), tmp_path / "agent_state.json")

    def epochs_shown() -> list[int]:
        page = out.read_text(encoding="utf-8") if out.exists() else ""
        found = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
        curves = [run["curve"] for run in json.loads(found[0])["runs"] if run["running"]] if found else []
        return [curve["epochs"] if curve else 0 for curve in curves]

    def wait_for(expected: list[int]) -> None:
        end = time.monotonic() + 20
        while epochs_shown() != expected:
            assert time.monotonic() < end, f"{epochs_shown()} never became {expected}"
            time.sleep(0.05)

    with WorkspaceLock(tmp_path):
        watching = subprocess.Popen(
            [sys.executable, "-m", "nas_agent_graph.report", "--workspace", str(tmp_path), "--watch", "0.2"],
            cwd=project_root,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for([0, 0, 0])
            for shown, number in (([0, 0, 1], 2), ([0, 1, 1], 1), ([1, 1, 1], 0)):
                paths = RunPaths(tmp_path / "runs" / run_ids[number])
                paths.folder.mkdir(parents=True)
                write_json(paths.history, {"epochs": [{"epoch": 0, "train_mse": 0.1, "val_mse": 0.06}]})
                wait_for(shown)
        except BaseException:
            watching.kill()
            raise
    assert watching.wait(timeout=240) == 0


def test_watching_follows_the_search_and_ends_with_it(
    tmp_path: Path, state: AgentState, project_root: Path
) -> None:
    out = tmp_path / "report.html"

    def runs_shown() -> tuple[bool, int]:
        page = out.read_text(encoding="utf-8") if out.exists() else ""
        found = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
        record = json.loads(found[0]) if found else {"live": False, "search": {"finished": 0}}
        return record["live"], record["search"]["finished"]

    def wait_for(expected: tuple[bool, int]) -> None:
        end = time.monotonic() + 20
        while runs_shown() != expected:
            assert time.monotonic() < end, f"{runs_shown()} never became {expected}"
            time.sleep(0.05)

    with WorkspaceLock(tmp_path):
        watching = subprocess.Popen(
            [sys.executable, "-m", "nas_agent_graph.report", "--workspace", str(tmp_path), "--watch", "0.2"],
            cwd=project_root,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for((True, 3))
            more = add(tmp_path, state.replace(in_progress=()), 3, 0.045, accepted=True, proposer="tpe")
            save_agent_state(more, tmp_path / "agent_state.json")
            wait_for((True, 4))
        except BaseException:
            watching.kill()
            raise
    said, _ = watching.communicate(timeout=240)
    assert watching.returncode == 0
    assert len(said.splitlines()) == 2
    assert runs_shown() == (False, 4)


def test_watching_waits_for_a_search_to_begin(tmp_path: Path, state: AgentState, project_root: Path) -> None:
    workspace = tmp_path.with_name(f"{tmp_path.name}_begun")
    with subprocess.Popen(
        [sys.executable, "-m", "nas_agent_graph.report", "--workspace", str(workspace), "--watch", "0.2"],
        cwd=project_root,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline() == f"there is no search in {workspace} yet; waiting for one\n"
            tmp_path.rename(workspace)
            assert watching.stdout.readline().startswith("wrote ")
        except BaseException:
            watching.kill()
            raise
    assert watching.returncode == 0
