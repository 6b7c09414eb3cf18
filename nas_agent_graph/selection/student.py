"""Student's t distribution with a whole number of degrees of freedom, in closed form.

Abramowitz and Stegun 1964, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

LIKE_NORMAL = 1_000
"""Degrees of freedom from which it is taken for the normal distribution: at 90 % they differ by .001."""
_HALVINGS = 80


def cdf(t: float, degrees: int) -> float:
    """Return P(T <= t). Raises ValueError for no degree of freedom."""
    if degrees < 1:
        raise ValueError(f"{degrees} degrees of freedom")
    if math.isinf(t):
        return float(t > 0)
    if degrees >= LIKE_NORMAL:
        return NormalDist().cdf(t)
    angle = math.atan2(t, math.sqrt(degrees))
    cosine, odd = math.cos(angle), degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for number in range(3 if odd else 2, degrees - 1, 2):
        term *= (number - 1) / number * cosine * cosine
        total += term
    central = math.sin(angle) * total
    return 0.5 + ((angle + central) / math.pi if odd else central / 2)


@lru_cache(maxsize=256)
def quantile(probability: float, degrees: int) -> float:
    """Return the t with P(T <= t) = `probability`, which lies between 0 and 1."""
    low, high = -1.0, 1.0
    while cdf(low, degrees) > probability:
        low *= 2
    while cdf(high, degrees) < probability:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
