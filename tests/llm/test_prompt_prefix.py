"""Prefix caches: what never changes within a search comes first, byte for byte, and the rest is short."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.llm.briefing import opening_messages, spelled_families
from nas_agent_graph.llm.prompt_size import estimate_tokens
from nas_agent_graph.llm.recording import circumstances_of, under
from nas_agent_graph.search_view import SearchView

ROOT = Path(__file__).resolve().parents[2]
BILLED_BEFORE = 10_700
"""Tokens of a proposal after 100 runs, all at the full price, before there was a constant part."""


@pytest.fixture(scope="module")
def search() -> Any:
    """The made-up search that the benchmark measures: families of every kind, causes, cuts, repeats."""
    return runpy.run_path(str(ROOT / "benchmarks" / "prompt_length.py"))["MadeUpSearch"]()


def parts(view: SearchView, **options: Any) -> tuple[str, str]:
    system, question = opening_messages(view, **options)
    return system["content"], question["content"]


def test_the_first_message_is_the_same_at_every_proposal_of_a_search(search: Any) -> None:
    constant = {parts(search.after(count))[0] for count in (0, 1, 2, 9, 10, 11, 50, 100, 300)}
    assert len(constant) == 1
    view = search.after(50)
    changed = replace(
        view,
        refused=("no",),
        attempt=2,
        notes="be quick",
        repeats_left=0,
        running=(),
        max_runs=51,
        left=replace(view.left, tokens=5),
        resolution=None,
        luck={},
        run_seconds=None,
    )
    assert parts(changed)[0] in constant
    assert len({parts(search.after(count), candidates=5)[0] for count in (1, 50)}) == 1


@pytest.mark.parametrize("count", [50, 100, 300])
def test_three_quarters_are_constant_and_the_rest_costs_a_quarter_of_what_a_proposal_did(
    search: Any, count: int
) -> None:
    constant, varying = map(estimate_tokens, parts(search.after(count)))
    assert constant >= 0.75 * (constant + varying), (constant, varying)
    assert varying <= BILLED_BEFORE / 4


def test_the_lessons_stand_first_because_they_change_every_ten_runs(search: Any) -> None:
    before, after = (parts(search.after(count))[1] for count in (42, 43))
    note = before[: before.index("# Where the search stands")]
    assert len(note) > 500 and after.startswith(note)


def test_a_compact_prompt_spells_out_the_best_families_and_the_next_untried_ones(search: Any) -> None:
    for count in (0, 10, 100):
        view = search.after(count)
        whole, compact = (parts(view, compact=compact)[0] for compact in (False, True))
        assert len(compact) < 0.8 * len(whole)
        kept = spelled_families(view)
        assert 0 < len(kept) <= 6
        for family in view.families:
            line = next(line for line in compact.splitlines() if line.startswith(f'- "{family}": '))
            assert ("Its default may be proposed" in line) == (family not in kept)
        assert parts(replace(view, compact=True))[0] == compact
    scored = [run for run in search.after(100).runs if run.val_score is not None]
    best = min(scored, key=lambda run: run.val_score or 1.0)
    assert best.family in spelled_families(search.after(100))
    assert "ridge" in spelled_families(search.after(100)), "nobody has tried it"


def test_a_compact_prompt_and_the_notes_are_written_again_from_what_was_recorded(search: Any) -> None:
    view = replace(search.after(30), notes="try longer look-backs\nno transformers", compact=True)
    recorded = json.loads(json.dumps(circumstances_of(view, view.families)))
    for today in ("", "something else"):
        now = replace(view, notes=today, compact=False)
        assert opening_messages(under(recorded, now)) == opening_messages(view)
    plain = circumstances_of(search.after(30), view.families)
    assert "notes" not in plain and "compact" not in plain
    assert under(plain, view).notes == "" and not under(plain, view).compact
    assert under(plain | {"notes": ["x"], "compact": "yes"}, view) == under(plain, view)


def test_several_candidates_are_asked_for_in_a_list_and_one_is_not(search: Any) -> None:
    view = search.after(20)
    (one, _), (five, asked) = parts(view), parts(view, candidates=5)
    assert '"candidates": [' in five and "one to 5 proposals, the best first" in five
    assert asked.endswith(f"Propose {view.run_id} now, with up to 5 candidates.")
    assert "candidates" not in one
    example = five[five.index("{\n") : five.index("\n- candidates:")]
    (candidate,) = json.loads(example)["candidates"]
    assert set(candidate) == {"parent", "changes", "hypothesis", "expected_val_mse"}
    assert json.loads(one[one.index("{\n") : one.index("\n- parent:")]) == candidate
    assert "up to 5 candidates" in parts(view, candidates=50)[1]
