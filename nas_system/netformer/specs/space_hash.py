"""A fingerprint of what is learned about: the search space, and the numbers that describe a task."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from nas_system.netformer.specs.meta_features import VERSION
from nas_system.space import ForecastingTask, families_of, parameters


@cache
def space_hash() -> str:
    """Changes with every family and with all that decides about a sampled parameter; not with its words."""
    described = {
        family: [
            [p.path, p.kind, p.choices, p.low, p.high, p.log, p.multiple_of, repr(p.when), p.where]
            for p in parameters(family)
            if p.sampled
        ]
        for family in families_of(ForecastingTask.kind)
    }
    return hashlib.sha256(json.dumps([VERSION, described]).encode()).hexdigest()[:16]
