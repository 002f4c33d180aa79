"""Doors for models that somebody else trained: any function, committees of scikit-learn, modules of
torch.
"""

from bayesal.adapters.committee import from_committee
from bayesal.adapters.samples import Samples, from_samples
from bayesal.adapters.torch_modules import from_torch

__all__ = ["Samples", "from_committee", "from_samples", "from_torch"]
