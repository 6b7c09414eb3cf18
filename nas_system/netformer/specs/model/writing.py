"""Candidates and their ranking: the writer writes, the grammar keeps it valid, the predictors choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nas_system.netformer.specs.model.config_grammar import Draft, Grammar
from nas_system.netformer.specs.model.proposer_model import ProposerModel, predict
from nas_system.netformer.specs.model.proposer_networks import PAD, ConfigWriter
from nas_system.netformer.specs.model.vocabulary import FAMILY
from nas_system.space import RunConfig, canonical_key

Array = NDArray[np.float64]

WANTED = -1.5
"""The relative score that is asked for: better than nine of ten rows of the archive."""
CANDIDATES = 256
TEMPERATURE = 1.0


@dataclass(frozen=True)
class Candidate:
    """A configuration somebody could train."""

    tokens: tuple[int, ...]
    config: RunConfig

    @property
    def key(self) -> str:
        return canonical_key(self.config)


@dataclass(frozen=True)
class Ranked:
    """A candidate and what the predictors think of it: relative scores, low is good."""

    candidate: Candidate
    relative: float
    spread: float
    """Deviation of the members' opinions."""


def write_candidates(
    writer: ConfigWriter, grammar: Grammar, features: Array, count: int, generator: torch.Generator
) -> list[Candidate]:
    """Different configurations, in the order in which they were written."""
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


def default_candidates(grammar: Grammar) -> list[Candidate]:
    """Every family's tried default, where it fits the task."""
    found = []
    for family in grammar.families:
        draft = grammar.begin(family)
        while (slot := grammar.next_slot(draft)) is not None:
            token = grammar.vocabulary.nearest(draft.values[slot], grammar.options(family, slot))
            assert grammar.write(draft, slot, token), "a draft's own value is always allowed"
        found.append(Candidate(tuple(draft.tokens), grammar.config_of(draft)))
    return found


def _with_families(
    writer: ConfigWriter, grammar: Grammar, features: Array, count: int, generator: torch.Generator
) -> list[Draft]:
    """Empty drafts of the families that the writer prefers on this data."""
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
    return repeated, torch.full((count,), WANTED)


def _next_logits(
    writer: ConfigWriter, grammar: Grammar, drafts: Sequence[Draft], slots: Sequence[str], features: Array
) -> torch.Tensor:
    """(drafts, tokens): of the token that each draft needs next. All drafts are equally long."""
    vocabulary = grammar.vocabulary
    written = torch.tensor([draft.tokens for draft in drafts])
    before = torch.tensor([[vocabulary.slot_of_token[t] for t in draft.tokens] for draft in drafts])
    wanted = torch.tensor([[vocabulary.slot[slot]] for slot in slots])
    with torch.no_grad():
        all_slots = torch.cat([before, wanted], dim=1)
        return writer(written, all_slots, *_condition(features, len(drafts)))[:, -1]


def _write_one(
    grammar: Grammar, draft: Draft, slot: str, logits: torch.Tensor, generator: torch.Generator
) -> None:
    """Draw a value that the grammar allows; what it refuses is not drawn again."""
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
    """The best `count`, best first."""
    opinions = predict(model, padded([candidate.tokens for candidate in candidates]), features)
    return [
        Ranked(candidates[i], float(opinions[:, i].mean()), float(opinions[:, i].std()))
        for i in chosen_order(opinions, count)
    ]


def chosen_order(opinions: Array, count: int) -> list[int]:
    """Which to try, one after the other, if the members of the ensemble are as many possible truths.

    The first is best on average. Each other one lowers the mean over the members of the best score so
    far the most, so a second opinion comes before a third look at the same idea.
    """
    members, candidates = opinions.shape
    best = np.full(members, np.inf)
    order: list[int] = []
    left = list(range(candidates))
    while left and len(order) < count:
        reached = np.minimum(best[:, None], opinions[:, left]).mean(axis=0)
        # Where nobody sees any gain, the average decides.
        ties = reached + 1e-3 * opinions[:, left].mean(axis=0)
        chosen = left.pop(int(ties.argmin()))
        order.append(chosen)
        best = np.minimum(best, opinions[:, chosen])
    return order


def candidates_for(
    model: ProposerModel, grammar: Grammar, features: Array, count: int, generator: torch.Generator
) -> list[Candidate]:
    """What was written for this data, and the tried defaults: a good idea need not be a new one."""
    found = {one.key: one for one in default_candidates(grammar)}
    for one in write_candidates(model.writer, grammar, features, count, generator):
        found.setdefault(one.key, one)
    return list(found.values())
