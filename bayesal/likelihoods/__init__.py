"""Likelihoods (from network outputs to predictions) and arithmetic of predictions.

A likelihood is one function from outputs to a prediction: log-probabilities of classes, a normal,
or a mixture of normals. Functions of a prediction refuse fields of unequal shapes, variances of 0
or less and weights or probabilities that do not sum to 1; NaN stays NaN.
"""

# `as`: for the other rooms, beside what is listed
from bayesal.likelihoods._families import CATEGORICAL as CATEGORICAL
from bayesal.likelihoods._families import FLOOR as FLOOR
from bayesal.likelihoods._families import NUMBERS as NUMBERS
from bayesal.likelihoods._families import categorical, gaussian, mixture
from bayesal.likelihoods._families import labels_of as labels_of
from bayesal.likelihoods._families import loss as loss
from bayesal.likelihoods._predictions import average as average
from bayesal.likelihoods._predictions import is_soft as is_soft
from bayesal.likelihoods._predictions import judged as judged
from bayesal.likelihoods._predictions import log_likelihood as log_likelihood
from bayesal.likelihoods._predictions import moments as moments
from bayesal.likelihoods._predictions import scored as scored
from bayesal.likelihoods._predictions import temper as temper
from bayesal.likelihoods._predictions import variance_parts

__all__ = [
    "categorical",
    "gaussian",
    "mixture",
    "variance_parts",
]


def __dir__() -> list[str]:
    return __all__
