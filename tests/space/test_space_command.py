"""The printed search space: everything is on it, it fits, and a typing error is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas_agent_graph.context import RunView, SearchView
from nas_agent_graph.llm.briefing import prompt_values
from nas_agent_graph.llm.prompts import render
from nas_agent_graph.space.page import page
from nas_system.space import FAMILIES, ForecastingTask, RunConfig, TaskConfig, families_of, parameters


def names_on(lines: list[str], prefix: str) -> set[str]:
    """First words of the rows below the header that names the part of the configuration."""
    found, inside = set(), False
    for line in lines:
        words = line.split()
        if words and words[0].endswith(".") and "allowed" in words:
            inside = words[0] == prefix
        elif inside and line.startswith("  ") and line[2:3].strip():
            found.add(words[0])
        elif not line:
            inside = False
    return found


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for families in (list(FAMILIES), *([family] for family in FAMILIES)):
        assert max(len(line.text) for line in page(families, width)) <= width


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_of_a_family_has_a_row_for_everything_that_can_matter_to_it(family: str) -> None:
    lines = [line.text for line in page([family], 100)]
    shown = {
        f"{part}.{name}" for part in ("model", "data", "training") for name in names_on(lines, f"{part}.")
    }
    without_effect = set() if FAMILIES[family].reads_covariates else {"covariates"}
    if family == "graph_transformer":
        without_effect = {"covariates", "series"}
    expected = {p.path for p in parameters(family) if p.where not in without_effect}
    if family == "ridge":  # fitted in closed form
        expected = {path for path in expected if not path.startswith("training.")} - {"data.batch_size"}
    assert shown == expected


def test_the_whole_page_names_every_family_with_its_sentence_and_every_parameter() -> None:
    lines = [line.text for line in page(list(FAMILIES), 100)]
    text = "\n".join(lines)
    for family in FAMILIES:
        assert f"\n  {family} " in text
        for parameter in parameters(family):
            assert parameter.path.split(".")[1] in text
    assert names_on(lines, "training.") == {p.path[9:] for p in parameters("linear") if p.group == "training"}


def test_families_stand_below_their_kind_of_task_and_options_of_a_series_are_marked() -> None:
    text = "\n".join(line.text for line in page(list(FAMILIES), 400))
    forecasters = text.index("Families for forecasting, in the order in which a search tries their defaults")
    graphs = text.index("Families for graph regression, graph classification, link prediction\n")
    assert forecasters < text.index("  informer ") < graphs < text.index("  graph_transformer ")
    assert "Options of all families for forecasting but ridge and linear\n" in text
    for line in (
        "Look-back: how many past steps the model sees. Only for a series.",
        'share of channels. Only for a series and while augmentation != "none".',
        "Only if numbers are predicted.",
        "Only if whole graphs are predicted.",
    ):
        assert f"{line}\n" in text
    assert text.count("\ngraph_transformer\n") == 1 and "graph_" not in text.replace("graph_transformer", "")
    alone = "\n".join(line.text for line in page(["linear"], 400))
    assert "seq_len" in alone and "for a series" not in alone


def test_the_tables_of_a_family_for_graphs_have_nothing_of_a_series(run_cli, tmp_path: Path) -> None:
    done = run_cli("nas_agent_graph.space", "graph_transformer", "--markdown", cwd=tmp_path)
    assert "For graph regression, graph classification, link prediction:" in done.stdout
    assert "| `model.random_walk` |" in done.stdout
    assert "seq_len" not in done.stdout and "augmentation" not in done.stdout
    assert "| `training.loss` |" in done.stdout and "| if whole graphs are predicted |" in done.stdout
    everything = run_cli("nas_agent_graph.space", "--markdown", cwd=tmp_path).stdout
    assert "| for a series | Look-back: how many past steps the model sees. |" in everything


def test_a_default_that_a_family_sets_otherwise_is_given_with_both_values() -> None:
    lines = [line.text for line in page(["linear"], 100)]
    (seq_len,) = [line for line in lines if line.startswith("  seq_len ")]
    assert "336 (96)" in seq_len
    (optimizer,) = [line for line in lines if line.startswith("  optimizer ")]
    assert " adam " in optimizer and "(" not in optimizer


def test_the_program_prints_the_page_markdown_and_json(run_cli, tmp_path: Path) -> None:
    plain = run_cli("nas_agent_graph.space", "tcn", cwd=tmp_path, env={"COLUMNS": "100"})
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout == "".join(f"{line.text}\n" for line in page(["tcn"], 100))
    tables = run_cli("nas_agent_graph.space", "--markdown", cwd=tmp_path)
    rows = [line for line in tables.stdout.splitlines() if line.startswith("| `model.kernel_size`")]
    assert len(rows) == sum("kernel_size" in family.model_fields for family in FAMILIES.values())
    assert {line.count(" | ") for line in tables.stdout.splitlines() if line.startswith("| `")} == {4}
    record = json.loads(run_cli("nas_agent_graph.space", "--json", cwd=tmp_path).stdout)
    assert list(record) == list(FAMILIES)
    linear = {row["parameter"]: row for row in record["linear"]["parameters"]}
    assert linear["data.seq_len"]["default"] == 96 and linear["data.seq_len"]["tried_default"] == 336
    assert linear["training.momentum"]["when"] == {"parameter": "training.optimizer", "is": ["sgd"]}
    assert linear["training.augmentation_strength"]["when"]["other_than"] == ["none"]


def test_a_misspelt_family_is_answered_with_the_one_that_was_meant(run_cli, tmp_path: Path) -> None:
    done = run_cli("nas_agent_graph.space", "patchtsd", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no family 'patchtsd'; did you mean patchtst?\n"
    done = run_cli("nas_agent_graph.space", "qqq", cwd=tmp_path)
    assert done.returncode == 2 and "there are: informer, ridge," in done.stderr


def test_help_loads_nothing_of_the_space(run_cli, tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text(
        "import sys\nfrom nas_agent_graph.cli import main\n"
        "try:\n    main(['space', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'pydantic', 'yaml', 'optuna', 'torch', 'langgraph'} & set(sys.modules)))\n"
    )
    done = run_cli("ask", cwd=tmp_path)
    assert done.stdout.startswith("usage: nas space")
    assert done.stdout.endswith("[]\n"), done.stderr


# --- the same tables in the prompt ----------------------------------------------------------


def prompt(task: TaskConfig, max_seq_len: int | None = None) -> str:
    base = RunConfig(task=task)
    runs = (RunView("run_0000", "OK", None, base, "informer", "k", 0.07, True, None, "2 epochs."),)
    view = SearchView(
        "run_0001", task, base, ("HUFL", "OT"), (), runs, runs[0], 0.001, 1, 9, max_seq_len=max_seq_len
    )
    return render("system", **prompt_values(view))


def test_the_prompt_has_every_parameter_and_says_each_common_option_once() -> None:
    text = prompt(ForecastingTask(targets=("HUFL", "OT")))
    for family in families_of("forecasting"):
        assert all(f"| {p.path} |" in text for p in parameters(family))
    for path in ("model.normalization", "model.linear_path", "model.channel_independence", "training.lr"):
        assert text.count(f"| {path} |") == 1
    rows = [line for line in text.splitlines() if line.startswith(("| model.", "| data.", "| training."))]
    assert {line.count(" | ") for line in rows} == {3}, "no description breaks a table"


def test_the_prompt_leaves_out_what_cannot_matter_and_says_where_families_start() -> None:
    text = prompt(ForecastingTask())
    assert "model.individual" not in text and "model.channel_independence" not in text
    assert "Reads the targets alone. Starts from data.seq_len 336" in text


def test_common_options_shorten_the_prompt_by_a_third() -> None:
    task = ForecastingTask(targets=("HUFL", "OT"))
    rows = [line for line in prompt(task).splitlines() if line.startswith("| model.")]
    one_by_one = sum(p.group == "model" for family in families_of("forecasting") for p in parameters(family))
    assert len(rows) < 0.67 * one_by_one


def test_the_prompt_names_the_longest_look_back() -> None:
    assert "a data.seq_len of 100 at most" in prompt(ForecastingTask(), max_seq_len=100)
    assert "at most.\n" not in prompt(ForecastingTask())
