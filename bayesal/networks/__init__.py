"""Networks: adapters that make a `Network` of a flax module or of plain functions, and two reference nets."""

from bayesal.networks.adapters import from_functions, from_linen, from_nnx
from bayesal.networks.convolution import conv
from bayesal.networks.heads import shared_noise
from bayesal.networks.last import LastLayer, last_layer
from bayesal.networks.reference import cnn, dropout, mlp

__all__ = ["LastLayer", "cnn", "conv", "dropout", "from_functions", "from_linen", "from_nnx", "last_layer", "mlp", "shared_noise"]
