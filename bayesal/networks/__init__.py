"""Reference networks, and adapters from flax, equinox or plain functions to a `Network`."""

from bayesal.networks._adapters import from_functions, from_linen, from_nnx
from bayesal.networks._convolution import conv
from bayesal.networks._distance import sngp
from bayesal.networks._equinox_modules import from_equinox
from bayesal.networks._heads import shared_noise
from bayesal.networks._reference import cnn, dropout, mlp
from bayesal.networks._resnet import resnet
from bayesal.networks._text import hashed, text

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


def __dir__() -> list[str]:
    return __all__
