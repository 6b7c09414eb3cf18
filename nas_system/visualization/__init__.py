"""Pictures of what a search wrote down: learning curves, forecasts, the progress of the search.

matplotlib takes longer to import than an epoch of a small model, so it is imported by the first
picture that is drawn, not by this package.
"""

from nas_system.visualization.forecasts import forecast_examples
from nas_system.visualization.learning_curves import learning_curve
from nas_system.visualization.search import search_progress

__all__ = ["forecast_examples", "learning_curve", "search_progress"]
