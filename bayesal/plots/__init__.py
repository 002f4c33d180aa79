"""Pictures of active learning: one function a picture, drawn in axes of yours or in a new figure.

Each is `plots.X(result, ax=None, ...) -> Axes` and shows what the library returns: `Results`,
predictions, a `Selection`, an `Explanation`, `retune.table`. Nothing is shown or saved:
`ax.figure.savefig(path)` does that. Colors are those of Okabe and Ito, safe for color-blind
readers; a strategy has the same color in every picture. Needs matplotlib:
`pip install 'bayesal[plots]'`.
"""

from bayesal.plots._batch import batch_diversity, batch_information, picked_images, score_histogram
from bayesal.plots._calibration import calibration_under_shift, reliability, risk_coverage
from bayesal.plots._curves import learning_curves
from bayesal.plots._rounds import hyperparameters, retuner_history
from bayesal.plots._uncertainty import uncertainty_map, uncertainty_parts

__all__ = [
    "batch_diversity",
    "batch_information",
    "calibration_under_shift",
    "hyperparameters",
    "learning_curves",
    "picked_images",
    "reliability",
    "retuner_history",
    "risk_coverage",
    "score_histogram",
    "uncertainty_map",
    "uncertainty_parts",
]


def __dir__() -> list[str]:
    return __all__
