"""Laplace approximations: of the last layer, and of the whole network made linear."""

from bayesal.posteriors._laplace._last_layer import last_layer_laplace
from bayesal.posteriors._laplace._linearized import linearized_laplace

__all__ = ["last_layer_laplace", "linearized_laplace"]
