"""Predictives: K functions of x bound to a temperature, ours or made from models of others.

`Predictive` binds a posterior of bayesal. `from_samples` takes any function, `from_committee`
fitted scikit-learn models, `from_torch` torch modules.
"""

from bayesal.predictive._bound import Predictive, bind
from bayesal.predictive._committee import from_committee
from bayesal.predictive._samples import from_samples
from bayesal.predictive._torch_modules import from_torch

__all__ = ["Predictive", "bind", "from_committee", "from_samples", "from_torch"]


def __dir__() -> list[str]:
    return __all__
