"""Reference networks, and adapters from flax, equinox or plain functions to a `Network`."""

from bayesal.networks.adapters import from_functions, from_linen, from_nnx
from bayesal.networks.convolution import conv
from bayesal.networks.distance import sngp
from bayesal.networks.equinox_modules import from_equinox
from bayesal.networks.heads import shared_noise
from bayesal.networks.reference import cnn, dropout, mlp
from bayesal.networks.resnet import resnet
from bayesal.networks.text import hashed, text

__all__ = [
    "cnn",
    "conv",
    "dropout",
    "from_equinox",
    "from_functions",
    "from_linen",
    "from_nnx",
    "hashed",
    "mlp",
    "resnet",
    "shared_noise",
    "sngp",
    "text",
]
