"""Baselines: what forecasts that take no search reach on exactly the windows that a model is scored on.

A result without them means little. Repeating the last value beats a careless Informer on ETTh1,
and one linear map in closed form beats nearly everything.
"""

from nas_system.data.baselines.scoring import score_baselines

__all__ = ["score_baselines"]
