"""Predictives: K functions of x bound to a temperature, ours or made from models of others.

`Predictive` binds a posterior of bayesal. `from_samples` takes any function, `from_committee`
fitted scikit-learn models, `from_torch` torch modules.
"""

from bayesal.predictive.bound import Predictive, bind
from bayesal.predictive.committee import from_committee
from bayesal.predictive.samples import from_samples
from bayesal.predictive.torch_modules import from_torch

__all__ = ["Predictive", "bind", "from_committee", "from_samples", "from_torch"]
