"""`benchmarks/scoreboard.py`: tables as spaces, what a search over one counts, and what is printed."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from python_server import run_python

from benchmarks.scoreboard import regrets_of, search
from benchmarks.seeded_tables import GRAPH_GRID, Table, graph_table_files
from benchmarks.table_searchers import SEARCHERS, OfProduct
from benchmarks.table_space import TableSpace, places_of, row_at
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_system.space import canonical_key

SIZES = (4, 3, 5)


@pytest.fixture
def table() -> Table:
    """The score is the sum of the places, so that row 0 is the best."""
    truths = np.array([float(sum(places)) for places in itertools.product(*map(range, SIZES))])
    scores = [[truth - 0.1, truth + 0.1] for truth in truths]
    return Table("sum", SIZES, scores, truths, (True, False, True))


def test_every_row_is_a_configuration_of_its_own(table: Table) -> None:
    space = TableSpace(table)
    rows = range(len(table.scores))
    with space.entered(0):
        configs = [space.config_of(row) for row in rows]
        assert len({canonical_key(config) for config in configs}) == len(configs)
    assert [space.row_of(config) for config in configs] == list(rows)
    assert [row_at(table, places_of(table, row)) for row in rows] == list(rows)
    assert set(space.labels[1]) == {"a", "b", "c"} and space.labels[0] == (0, 1, 2, 3)


def test_our_sampler_searches_a_table_through_its_own_view(table: Table) -> None:
    space = TableSpace(table)
    rows = [len(table.scores) - 1]
    with space.entered(rows[0]):
        searcher = OfProduct(space, 0, 30, TPEProposer())
        searcher.tell(rows[0], table.scores[rows[0]][0])
        while len(rows) < 30:
            rows.append(searcher.ask())
            searcher.tell(rows[-1], table.scores[rows[-1]][0])
    assert len(set(rows)) == 30, "nothing is trained twice"
    assert {run.proposer for run in searcher.runs[1:]} == {"tpe"}
    # Thirty random rows of sixty miss the best two in a quarter of the cases; a sum is easy to descend.
    assert min(table.truths[rows]) <= 1


def test_the_regret_is_that_of_what_the_scores_lead_to(table: Table) -> None:
    """The second row is worse and was lucky, so that it leads; the third does not beat its score."""
    rows, scores = [1, 40, 2], [5.0, 0.5, 3.0]
    middle = float(np.median(table.truths))
    found = regrets_of(table, rows, scores)
    assert found == pytest.approx(table.truths[[1, 40, 40]] / middle)


@pytest.mark.parametrize("proposer", ["tpe", "optuna_tpe", "evolution", "random"])
def test_all_begin_with_the_same_training_and_the_same_luck(table: Table, proposer: str) -> None:
    regrets, repeats, _ = search(proposer, TableSpace(table), 3, 12)
    start = random.Random("sum 3").randrange(len(table.scores))
    assert regrets[0] == pytest.approx(table.truths[start] / float(np.median(table.truths)))
    assert len(regrets) == 12 and repeats >= 0
    again, _, _ = search(proposer, TableSpace(table), 3, 12)
    assert again.tolist() == regrets.tolist()


def test_isomorphic_graph_networks_have_one_score() -> None:
    pytest.importorskip("nas_bench_graph")
    assert tuple(graph_table_files()) == GRAPH_GRID
    table = Table.read(graph_table_files()["cora"])
    assert table.sizes == (9, 9, 9, 9, 9)
    # Links 0, 0, 0, 0: all four operations read the input, and their order is none.
    rows = [row_at(table, (0, *order)) for order in itertools.permutations((0, 1, 2, 4))]
    assert len({table.truths[row] for row in rows}) == 1
    assert 0.1 < table.best < 0.3


def test_the_scoreboard_prints_draws_and_writes(project_root: Path, tmp_path: Path) -> None:
    script = str(project_root / "benchmarks" / "scoreboard.py")
    flags = ("--seeds", "2", "--tables", "cifar10", "--proposers", "random", "evolution", "--jobs", "1")
    done = run_python(
        [script, *flags, "--reference", "random", "--out", "s.json", "--picture", "s.png"], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "s.json").read_text())
    rows = {row["proposer"]: row for row in found["rows"]}
    assert rows["random"]["after"]["40"]["ratio"] == 1
    assert rows["random"]["after"]["40"]["ratio_interval"] == [1, 1]
    assert rows["evolution"]["seeds"] == 2
    low, high = rows["evolution"]["after"]["100"]["interval"]
    assert low <= rows["evolution"]["after"]["100"]["regret"] <= high
    assert set(rows) <= set(SEARCHERS)
    assert "1 of 1" in done.stdout
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
