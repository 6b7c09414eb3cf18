"""Candidates and their ranking: the writer writes, the grammar keeps them valid, the predictors rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nas_system.netformer.specs.model.config_grammar import ConfigGrammar, Draft
from nas_system.netformer.specs.model.proposer_model import ProposerModel, predict
from nas_system.netformer.specs.model.proposer_networks import PAD, ConfigWriter
from nas_system.netformer.specs.model.vocabulary import FAMILY
from nas_system.space import RunConfig, canonical_key

Array = NDArray[np.float64]

WANTED_SCORE = -1.5
"""The relative score to condition on: better than nine of ten rows of the archive."""
CANDIDATES = 256
TEMPERATURE = 1.0


@dataclass(frozen=True)
class Candidate:
    """A valid configuration."""

    tokens: tuple[int, ...]
    config: RunConfig

    @property
    def key(self) -> str:
        return canonical_key(self.config)


@dataclass(frozen=True)
class Ranked:
    """A candidate and its predicted relative score; lower is better."""

    candidate: Candidate
    relative: float
    spread: float
    """Standard deviation over the members of the ensemble."""


def write_candidates(
    writer: ConfigWriter, grammar: ConfigGrammar, features: Array, count: int, generator: torch.Generator
) -> list[Candidate]:
    """Write up to `count` distinct configurations, in the order in which they were written."""
    drafts = _with_families(writer, grammar, features, count, generator)
    open_drafts = list(range(len(drafts)))
    while open_drafts:
        slots = {i: slot for i in open_drafts if (slot := grammar.next_slot(drafts[i])) is not None}
        open_drafts = list(slots)
        if open_drafts:
            chosen = [drafts[i] for i in open_drafts]
            logits = _next_logits(writer, grammar, chosen, list(slots.values()), features)
            for draft, slot, row in zip(chosen, slots.values(), logits, strict=True):
                _write_one(grammar, draft, slot, row, generator)
    found: dict[str, Candidate] = {}
    for draft in drafts:
        candidate = Candidate(tuple(draft.tokens), grammar.config_of(draft))
        found.setdefault(candidate.key, candidate)
    return list(found.values())


def default_candidates(grammar: ConfigGrammar) -> list[Candidate]:
    """Return every family's default, as far as it fits the task and has tokens."""
    found = []
    for family in grammar.families:
        draft = grammar.begin(family)
        while (slot := grammar.next_slot(draft)) is not None:
            token = grammar.vocabulary.nearest(draft.values[slot], grammar.options(family, slot))
            assert grammar.write(draft, slot, token), "a draft's own value is always allowed"
        found.append(Candidate(tuple(draft.tokens), grammar.config_of(draft)))
    return found


def _with_families(
    writer: ConfigWriter, grammar: ConfigGrammar, features: Array, count: int, generator: torch.Generator
) -> list[Draft]:
    """Begin drafts of families that the writer draws for this data."""
    families = grammar.families
    tokens = torch.tensor([grammar.vocabulary.index[FAMILY, family] for family in families])
    slots = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        logits = writer(torch.zeros(1, 0, dtype=torch.long), slots, *_condition(features, 1))[0, 0, tokens]
    shares = (logits / TEMPERATURE).softmax(dim=0)
    drawn = torch.multinomial(shares, count, replacement=True, generator=generator)
    return [grammar.begin(families[number]) for number in drawn.tolist()]


def _condition(features: Array, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    repeated = torch.tensor(features, dtype=torch.float32).expand(count, -1)
    return repeated, torch.full((count,), WANTED_SCORE)


def _next_logits(
    writer: ConfigWriter,
    grammar: ConfigGrammar,
    drafts: Sequence[Draft],
    slots: Sequence[str],
    features: Array,
) -> torch.Tensor:
    """Return logits of the next token of each draft, (drafts, tokens). All drafts are equally long."""
    vocabulary = grammar.vocabulary
    written = torch.tensor([draft.tokens for draft in drafts])
    before = torch.tensor([[vocabulary.slot_of_token[t] for t in draft.tokens] for draft in drafts])
    wanted = torch.tensor([[vocabulary.slot[slot]] for slot in slots])
    with torch.no_grad():
        all_slots = torch.cat([before, wanted], dim=1)
        return writer(written, all_slots, *_condition(features, len(drafts)))[:, -1]


def _write_one(
    grammar: ConfigGrammar, draft: Draft, slot: str, logits: torch.Tensor, generator: torch.Generator
) -> None:
    """Draw a value that the grammar allows; a refused one is not drawn again."""
    options = list(grammar.options(draft.family, slot))
    while True:
        shares = (logits[options] / TEMPERATURE).softmax(dim=0)
        token = options[int(torch.multinomial(shares, 1, generator=generator))]
        if grammar.write(draft, slot, token):
            return
        options.remove(token)


def padded(tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    rows = [torch.tensor(list(written)) for written in tokens]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def rank(model: ProposerModel, candidates: Sequence[Candidate], features: Array, count: int) -> list[Ranked]:
    """Return the `count` most promising candidates, best first."""
    predicted = predict(model, padded([candidate.tokens for candidate in candidates]), features)
    return [
        Ranked(candidates[i], float(predicted[:, i].mean()), float(predicted[:, i].std()))
        for i in chosen_order(predicted, count)
    ]


def chosen_order(predicted: Array, count: int) -> list[int]:
    """Return which candidates to try, in turn; `predicted` is (members, candidates).

    The first is best on average. Each further one lowers the mean over the members of the best score so
    far the most, so candidates on which the members disagree come before near copies of the first.
    """
    members, candidates = predicted.shape
    best = np.full(members, np.inf)
    order: list[int] = []
    left = list(range(candidates))
    while left and len(order) < count:
        reached = np.minimum(best[:, None], predicted[:, left]).mean(axis=0)
        # Where no member expects any gain, the average decides.
        ties = reached + 1e-3 * predicted[:, left].mean(axis=0)
        chosen = left.pop(int(ties.argmin()))
        order.append(chosen)
        best = np.minimum(best, predicted[:, chosen])
    return order


def candidates_for(
    model: ProposerModel, grammar: ConfigGrammar, features: Array, count: int, generator: torch.Generator
) -> list[Candidate]:
    """Return the families' defaults, and what the writer wrote for this data."""
    found = {one.key: one for one in default_candidates(grammar)}
    for one in write_candidates(model.writer, grammar, features, count, generator):
        found.setdefault(one.key, one)
    return list(found.values())
