"""Random search: every parameter drawn on its own, uniformly over its grid or on its scale.

Bergstra, Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13. The honest
baseline of every cleverer proposer.
"""

from __future__ import annotations

import random

from nas_agent_graph.proposers.sampling import (
    draw_config,
    draw_until_new,
    seed_of,
    untried_default,
)
from nas_agent_graph.search_view import Proposal, SearchView
from nas_system.space import RunConfig
from nas_system.space.sampling import draw_value


class RandomSearchProposer:
    """Draws a family, then every sampled parameter of it."""

    name = "random_search"

    def propose(self, view: SearchView) -> Proposal:
        default = untried_default(view, self.name)
        if default is not None:
            return default
        generator = random.Random(seed_of(view))
        families = view.families

        def draw() -> RunConfig:
            return draw_config(view, generator.choice(families), lambda p: draw_value(p, generator))

        return draw_until_new(view, self.name, draw, "drawn at random")
