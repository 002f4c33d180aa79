"""Confidence that is true: fitted on held-out labels, under priors that hold with 10 of them and
give way with 10,000.

`fit_*` take arrays; `temperature`, `vector` and `variance` are what `learner(calibrate=...)` takes,
and are fitted on out-of-fold predictions. Labels that were chosen actively are no fair sample: see
`inverse_probability_weights`, `poststratification_weights`, and `corrected`, which is
`learner(audit=...)`.
"""

from bayesal.calibrate._search import (
    BOUND,
    FADE,
    Calibrator,
    Temperature,
    effective_sample_size,
    unfitted,
)
from bayesal.calibrate.audit import corrected
from bayesal.calibrate.classes import fit_temperature, nll_and_slope, temperature
from bayesal.calibrate.numbers import density_and_slope, fit_variance, variance
from bayesal.calibrate.sampling import inverse_probability_weights, poststratification_weights
from bayesal.calibrate.vector import fit_vector, vector

__all__ = [
    "BOUND",
    "FADE",
    "Calibrator",
    "Temperature",
    "corrected",
    "density_and_slope",
    "effective_sample_size",
    "fit_temperature",
    "fit_variance",
    "fit_vector",
    "inverse_probability_weights",
    "nll_and_slope",
    "poststratification_weights",
    "temperature",
    "unfitted",
    "variance",
    "vector",
]
