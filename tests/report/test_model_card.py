"""The model card of an ended search: what it says, from files of any kind, and that nothing breaks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from concluded import baselines_info, conclusion_of_ended, ended_state, write_ended_search
from markdown_it import MarkdownIt

from nas_agent_graph.analysis.conclusions import read_conclusion
from nas_agent_graph.report.markdown import code, prose, table
from nas_agent_graph.report.model_card import model_card, write_model_card
from nas_system.nas_agent.agent_state import AgentState
from nas_system.space import GraphClassificationTask
from nas_system.space.task_info import TaskInfo

ACCURACY = {
    "mase": 0.8125,
    "smape": 12.34,
    "rmse": 1.2,
    "mae": 0.9,
    "per_step": {"mae": [1.0], "rmse": [1.0]},
}


def part(mse: float, windows: int = 2857) -> dict[str, Any]:
    return {"mse": mse, "mae": 0.17, "windows": windows, "accuracy": ACCURACY}


def covered(of_80: float, of_90: float) -> dict[str, Any]:
    return {
        "80": {"coverage": of_80, "width": 3.21, "wql": 0.051},
        "90": {"coverage": of_90, "width": 4.1, "wql": 0.052},
    }


RECOMMENDED: dict[str, Any] = {
    "schema_version": 1,
    "recommended": "ensemble",
    "why": "the mean of 3 that cannot be told apart",
    "members": [
        {"name": "run_0002", "kind": "run", "weight": 0.25, "trainings": [{"folder": "x", "sha256": "0"}]},
        {"name": "run_0003", "kind": "run", "weight": 0.25, "trainings": []},
        {"name": "nlinear-336", "kind": "baseline", "weight": 0.5},
    ],
    "refits": {"hold_out": {"run_0002": [{"folder": "runs/run_0002_all", "sha256": "0"}]}},
    "evaluation": {
        "as_searched": {"val": part(0.0485), "test": part(0.0255), "hold_out": part(0.0299)},
        "refitted": {"test": part(0.0251), "hold_out": part(0.0288)},
        "intervals": {
            "levels": [80, 90],
            "test": covered(0.81, 0.9),
            "hold_out": covered(0.7, 0.83),
            "recent": covered(0.79, 0.95),
        },
    },
}
MEASURED: dict[str, Any] = {
    "rows": 17420,
    "first": "2016-07-01T00:00:00",
    "last": "2018-06-26T19:00:00",
    "freq": "h",
    "filled": {"OT": 3},
    "card": {
        "rows": 10452,
        "step": "h",
        "targets": [{"name": "OT", "seasons": [[24, 0.34]], "val_shift": -1.3}],
        "warnings": ["OT has few values"],
    },
}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AgentState]:
    workspace = tmp_path_factory.mktemp("ended")
    return workspace, write_ended_search(workspace)


def measured_info() -> TaskInfo:
    sizes = {"train": 10000, "val": 40, "test": 2857, "hold_out": 2857}
    return replace(baselines_info(), measured=MEASURED, sizes=sizes, columns=("HUFL", "OT"))


def card_of(search: tuple[Path, AgentState], recommended: object = None, info: TaskInfo | None = None) -> str:
    workspace, state = search
    return model_card(workspace, state, info, conclusion_of_ended(state), recommended)


def tables_of(text: str) -> list[list[list[str]]]:
    """The tables as a Markdown program finds them: rows of cells."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level >= 4:
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found


def test_it_is_written_into_the_workspace_of_an_ended_search(search: tuple[Path, AgentState]) -> None:
    workspace, state = search
    conclusion = read_conclusion(workspace, state)
    path = write_model_card(workspace, state, measured_info(), conclusion, RECOMMENDED)
    assert path == workspace / "model_card.md"
    text = path.read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Data",
        "## Task",
        "## What is recommended",
        "## How it was chosen",
        "## Scores",
        "## Limits",
        "## How to use it",
        "## Versions",
    ]
    for words in (
        "17420 rows, `2016-07-01T00:00:00` to `2018-06-26T19:00:00`, step `h`",
        "Columns: `HUFL`, `OT`",
        "3 in `OT`",
        "forecast OT, 24 steps ahead",
        "`ensemble`: the mean of 3 that cannot be told apart",
        "`seq_len=96`",
        "trained again, on all rows",
        "7 runs (6 with a score, 1 failed, 0 were stopped early)",
        "Proposed by: `tpe` 6",
        "not distinguishable from run_0003",
        "resolve no differences below",
        "hold-out score, taken once, is 0.0302",
        "nas predict --plot forecast.png",
        "nas predict --export model.onnx",
        "nas-agent ",
    ):
        assert words in text, words


def test_members_and_scores_stand_in_tables(search: tuple[Path, AgentState]) -> None:
    members, board, evaluated, intervals = tables_of(card_of(search, RECOMMENDED, measured_info()))
    assert [row[0] for row in members] == ["member", "run_0002", "run_0003", "nlinear-336"]
    assert members[1][1] == "gru" and members[3][1:] == ["baseline", "", "0.5"]
    assert board[1] == ["run_0002", "gru", "4", "0.04985", "", "0.03020"]
    assert board[2] == ["nlinear-336", "baseline", "", "0.05040", "0.02620", "0.02910"]
    assert evaluated[2][0] == "test, trained as in the search"
    assert evaluated[2][1:] == ["2,857", "0.0255", "0.17", "0.8125", "12.34", "1.2", "0.9"]
    assert evaluated[5][0].startswith("hold-out, refitted") and evaluated[5][2] == "0.0288"
    assert intervals[3] == ["80 %", "hold-out", "70.0%", "3.21", "0.051"]
    assert len(intervals) == 7


def test_limits_name_shifts_few_windows_ties_and_intervals_that_fail(search: tuple[Path, AgentState]) -> None:
    limits = card_of(search, RECOMMENDED, measured_info()).split("## Limits")[1].split("## How to use")[0]
    for words in (
        "up to `2018-06-26T19:00:00`",
        "not distinguishable from simple forecasts: `nlinear-336`",
        "40 val windows",
        "The mean of `OT` moved by -1.3 training standard deviations",
        "The 80 % intervals covered 70.0% on the hold-out part: too narrow",
        "The 90 % intervals covered 95.0% of the most recent rows: wider",
        "no rows are left to score it on",
    ):
        assert words in limits, words
    assert "on the test part" not in limits


def test_without_a_recommendation_it_speaks_of_the_best_run(search: tuple[Path, AgentState]) -> None:
    text = card_of(search)
    assert "The best run, `run_0002`." in text
    assert "nas predict --run run_0002 --plot forecast.png" in text
    assert "task_facts.json" in text
    assert [table[0][0] for table in tables_of(text)] == ["member", "row"]


def test_a_search_without_a_score_or_a_conclusion_has_a_card(tmp_path: Path) -> None:
    text = model_card(tmp_path, AgentState(), None, None, None)
    assert "Nothing: no run has a score." in text
    assert "has not concluded" in text
    assert "There is nothing to use." in text
    assert "nas predict" not in text


def test_a_search_over_graphs_has_no_forecasts_to_offer(tmp_path: Path) -> None:
    state = ended_state(GraphClassificationTask(name="ring_synth"), mirror=0.9)
    text = model_card(tmp_path, state, None, conclusion_of_ended(state), None)
    assert "nas predict" not in text
    assert f"nas score --run runs/{state.best_run_id}" in text
    assert "the highest wins" in text
    assert "is lower by" in text


NONSENSE: list[Any] = [
    [],
    "ensemble",
    {"recommended": 7, "members": {}},
    {"recommended": "ensemble", "why": None, "members": "all"},
    {"recommended": "run_9999", "members": [None, 3, {"name": None}, {"name": "run_9999", "weight": "x"}]},
    {"recommended": "ensemble", "members": [{"name": "run_0002", "weight": float("nan")}] * 500},
    {"recommended": "e", "refits": [], "evaluation": []},
    {
        "recommended": "e",
        "refits": {"hold_out": 3},
        "evaluation": {"as_searched": {"val": 3}, "intervals": 4},
    },
    {"recommended": "e", "evaluation": {"as_searched": {"val": {"mse": "x", "accuracy": [1]}}}},
    {"recommended": "e", "evaluation": {"refitted": {"test": part(float("inf"), windows=10**400)}}},
    {"recommended": "e", "evaluation": {"intervals": {"test": {"x": {}, "80": 3, "nan": {}, "900": {}}}}},
    {"recommended": "e", "evaluation": {"intervals": {"test": covered(7.0, -1.0)}}},
]


@pytest.mark.parametrize("recommended", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_left_out(recommended: Any, search: tuple[Path, AgentState]) -> None:
    text = card_of(search, recommended, measured_info())
    assert text.count("\n## ") == 8
    assert len(text) < 20_000
    for word in ("None", "nan", "inf ", "700.0%"):
        assert word not in text.split("## What is recommended")[1], word


HOSTILE = "x\n\n# Sealed\n<script>alert(1)</script> | [a](http://b) `c` **d** ![e](f) _g_ $h$\u202e\x1b[31m"


def test_foreign_text_is_shown_and_does_nothing(search: tuple[Path, AgentState]) -> None:
    workspace, state = search
    card = MEASURED["card"] | {
        "targets": [{"name": HOSTILE, "val_shift": 5.0}],
        "warnings": [HOSTILE, "1. " + HOSTILE, "- " + HOSTILE],
    }
    measured = MEASURED | {"first": HOSTILE, "rows": HOSTILE, "filled": {HOSTILE: HOSTILE}, "card": card}
    info = replace(measured_info(), measured=measured, columns=(HOSTILE, "```"))
    info = replace(info, source=replace(info.source, name=HOSTILE))
    recommended = RECOMMENDED | {
        "recommended": HOSTILE,
        "why": HOSTILE,
        "members": [{"name": HOSTILE, "kind": HOSTILE, "weight": 1}],
    }
    runs = tuple(run.model_copy(update={"proposer": HOSTILE, "family": HOSTILE}) for run in state.runs)
    text = model_card(workspace, state.replace(runs=runs), info, conclusion_of_ended(state), recommended)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    children = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in tokens} | {child.type for child in children}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "strong_open", "em_open"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", *["h2"] * 8]
    assert "ordered_list_open" not in kinds
    assert sum(token.type == "fence" for token in tokens) == 1
    for rows in tables_of(text):
        assert {len(row) for row in rows} == {len(rows[0])}
    assert "\u202e" not in text and "\x1b" not in text
    assert "<script>alert(1)</script>" in "".join(child.content for child in children)


def test_names_and_sentences_keep_what_they_say() -> None:
    assert prose("run_0002 has val_mse 0.05, 3.5 times") == "run_0002 has val_mse 0.05, 3.5 times"
    assert prose("1. a") == "1\\. a"
    assert code("a`b") == "`a'b`"
    assert table(("a", "b"), [("`x|y`", "1")])[2] == "| `x\\|y` | 1 |"
    assert table(("a",), []) == []
