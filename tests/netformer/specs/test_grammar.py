"""Tokens and grammar: every configuration of the grids comes back exactly, and nothing invalid is written."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nas_system.netformer.specs.archive.config_drawing import draw_config
from nas_system.netformer.specs.model.config_grammar import Grammar
from nas_system.netformer.specs.model.proposer_networks import ConfigWriter
from nas_system.netformer.specs.model.vocabulary import FAMILY, build_vocabulary
from nas_system.netformer.specs.model.writing import write_candidates
from nas_system.space import (
    ForecastingTask,
    RunConfig,
    active_values,
    canonical_key,
    families_of,
    family_default,
    is_active,
    parameters,
)

VOCABULARY = build_vocabulary()
TASKS = {
    "one target": (ForecastingTask(), 8_000),
    "every column": (ForecastingTask(targets=("all",), pred_len=4), 300),
    "short series": (ForecastingTask(pred_len=4), 40),
    "tiny series": (ForecastingTask(pred_len=2), 9),
}


@pytest.mark.parametrize("family", families_of("forecasting"))
def test_a_familys_tried_default_comes_back_exactly(family: str) -> None:
    default = family_default(family)
    back = Grammar(VOCABULARY, default.forecasting, 8_000).config_from(
        VOCABULARY.encode(active_values(default))
    )
    assert back is not None and canonical_key(back) == canonical_key(default)


def test_configurations_of_the_grids_come_back_exactly() -> None:
    generator, task = random.Random(5), ForecastingTask()
    grammar = Grammar(VOCABULARY, task, 8_000)
    for _ in range(80):
        config = draw_config(task, 8_000, generator, seed=42)
        on_grid = config.training.model_copy(update={"lr": generator.choice((1e-5, 1e-4, 1e-3, 0.01, 0.1))})
        config = RunConfig.model_validate(config.model_copy(update={"training": on_grid}).model_dump())
        back = grammar.config_from(VOCABULARY.encode(active_values(config)))
        assert back is not None and active_values(back) == active_values(config)


def test_a_number_between_two_places_goes_to_the_nearest() -> None:
    values = active_values(family_default("gru")) | {"training.lr": 0.00097, "model.hidden_size": 30}
    tokens = [VOCABULARY.tokens[number] for number in VOCABULARY.encode(values)]
    found = {token.path: token.value for token in tokens}
    assert (found["training.lr"], found["model.hidden_size"]) == (0.001, 32)


@pytest.mark.parametrize("name", TASKS)
def test_what_an_untrained_writer_writes_is_always_valid(name: str) -> None:
    task, longest = TASKS[name]
    torch.manual_seed(0)
    writer = ConfigWriter(VOCABULARY, 3, width=8, layers=1, dropout=0.0, longest=len(VOCABULARY.paths)).eval()
    grammar = Grammar(VOCABULARY, task, longest)
    written = write_candidates(writer, grammar, np.zeros(3), 60, torch.Generator().manual_seed(1))
    assert len(written) > 50
    assert len({candidate.config.model.family for candidate in written}) >= 8
    for candidate in written:
        config = RunConfig.model_validate(candidate.config.model_dump())
        assert config.data.seq_len <= longest
        named = [VOCABULARY.tokens[token].path for token in candidate.tokens]
        effective = [p.path for p in parameters(config.model.family) if p.sampled and is_active(config, p)]
        assert named == [FAMILY, *effective]


def test_a_value_that_leaves_no_valid_rest_is_refused() -> None:
    grammar = Grammar(VOCABULARY, ForecastingTask(), 8_000)
    draft = grammar.begin("patchtst")
    chosen = {"model.patch_len": 8, "model.stride": 24}
    accepted = {}
    while (slot := grammar.next_slot(draft)) is not None:
        value = chosen.get(slot, draft.values[slot])
        accepted[slot] = grammar.write(
            draft, slot, VOCABULARY.nearest(value, grammar.options("patchtst", slot))
        )
        if not accepted[slot]:
            assert grammar.write(draft, slot, VOCABULARY.nearest(8, grammar.options("patchtst", slot)))
    # Patches of 8 steps can be had, but no stride that would skip steps between them.
    assert accepted["model.patch_len"] and not accepted["model.stride"]
    assert grammar.config_of(draft).model.model_dump()["stride"] == 8


def test_tokens_against_the_rules_are_no_configuration() -> None:
    grammar = Grammar(VOCABULARY, ForecastingTask(), 8_000)
    tokens = VOCABULARY.encode(active_values(family_default("linear")))
    assert grammar.config_from(tokens) is not None
    # Its kernel has no effect without a decomposition; the last token is missing; another family's value.
    assert grammar.config_from([*tokens, VOCABULARY.index["model.kernel", 25]]) is None
    assert grammar.config_from(tokens[:-1]) is None
    assert grammar.config_from([VOCABULARY.index["training.lr", 0.01], *tokens[1:]]) is None
    assert grammar.config_from([]) is None


def test_no_look_back_is_longer_than_the_series_allows() -> None:
    grammar = Grammar(VOCABULARY, ForecastingTask(), 100)
    values = [grammar.value_of(t) for t in grammar.options("gru", "data.seq_len")]
    assert values == [48, 96]
    shorter = Grammar(VOCABULARY, ForecastingTask(), 20)
    assert [shorter.value_of(t) for t in shorter.options("gru", "data.seq_len")] == [20]
