"""Pictures of what a search wrote down: learning curves, forecasts, attention, molecules, the search.

matplotlib takes longer to import than an epoch of a small model, so it is imported by the first
picture that is drawn, not by this package.
"""

from nas_system.visualization.attention import AttentionMap, attention_picture
from nas_system.visualization.confusion_matrix import confusion_matrix
from nas_system.visualization.forecasts import forecast_examples
from nas_system.visualization.future import future_forecast
from nas_system.visualization.learning_curves import learning_curve
from nas_system.visualization.molecule import MoleculeDrawing, molecule_picture
from nas_system.visualization.predicted_values import predicted_values
from nas_system.visualization.search import Seeds, search_progress

__all__ = [
    "AttentionMap",
    "MoleculeDrawing",
    "Seeds",
    "attention_picture",
    "confusion_matrix",
    "forecast_examples",
    "future_forecast",
    "learning_curve",
    "molecule_picture",
    "predicted_values",
    "search_progress",
]
