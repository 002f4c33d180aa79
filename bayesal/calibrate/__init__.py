"""Calibration on held-out labels: temperatures, variances, sample weights, conformal prediction.

`fit_temperature`, `fit_vector` and `fit_variance` take arrays. `temperature`, `vector` and
`variance` are for `learner(calibrate=...)`, fitted on out-of-fold predictions. Their priors suit 10
labels and fade by 10,000. Actively chosen labels are not a random sample: see
`inverse_probability_weights`, `poststratification_weights` and `corrected`, which is
`learner(audit=...)`. `conformal` has prediction sets and intervals of guaranteed coverage.
"""

from bayesal.calibrate import conformal
from bayesal.calibrate._audit import corrected
from bayesal.calibrate._search import Temperature, effective_sample_size
from bayesal.calibrate._temperature import fit_temperature, temperature
from bayesal.calibrate._variance import fit_variance, variance
from bayesal.calibrate._vector import fit_vector, vector
from bayesal.calibrate._weights import inverse_probability_weights, poststratification_weights

__all__ = [
    "Temperature",
    "conformal",
    "corrected",
    "effective_sample_size",
    "fit_temperature",
    "fit_variance",
    "fit_vector",
    "inverse_probability_weights",
    "poststratification_weights",
    "temperature",
    "variance",
    "vector",
]


def __dir__() -> list[str]:
    return __all__
