"""Text classification: hashed n-grams on the host, and a small encoder of token ids."""

import re
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from bayesal import _checks, errors
from bayesal.networks._adapters import from_nnx
from bayesal.networks._reference import dropout
from bayesal.types import Network

__all__ = ["hashed", "text"]

PADDING = 0  # the id that stands for no token


def hashed(
    texts: Sequence[str] | np.ndarray,
    *,
    length: int = 64,
    buckets: int = 8192,
    ngrams: Sequence[int] = (1, 2),
) -> Int[np.ndarray, "N length"]:
    """Hash the word n-grams of texts to token ids: a pool for `networks.text` without a vocabulary.

    Words are runs of letters, digits and underscores, in lower case. Each n-gram's id is 1 + CRC-32
    modulo `buckets - 1`: the same on every machine, for every list of texts. The n-grams stand in
    the order of their first word (at each word the shorter first); what exceeds `length` is cut
    off, what is missing is 0.

    Args:
      texts: N strings.
      length: ids per text.
      buckets: how many ids there are, 0 included; different n-grams may share one.
      ngrams: how many words make one.

    >>> hashed(["Good film", "good", ""], length=4).tolist()
    [[4816, 4761, 4201, 0], [4816, 0, 0, 0], [0, 0, 0, 0]]
    """
    if isinstance(texts, str | bytes) or any(not isinstance(text, str) for text in texts):
        bad = (
            []
            if isinstance(texts, str | bytes)
            else [i for i, text in enumerate(texts) if not isinstance(text, str)]
        )
        why = f"; rows {_checks.listed(bad)} are none" if bad else ", one per example"
        raise errors.WrongType("texts", f"`texts` must be a list of strings{why}.")
    length, buckets = _checks.at_least(1, length, "length"), _checks.at_least(2, buckets, "buckets")
    sizes = sorted(_checks.at_least(1, size, "ngrams") for size in ngrams)
    out = np.full((len(texts), length), PADDING, np.int32)
    for row, text in zip(out, texts, strict=True):
        words = re.findall(r"\w+", text.lower())
        grams = (
            " ".join(words[at : at + size])
            for at in range(len(words))
            for size in sizes
            if at + size <= len(words)
        )
        for place, gram in zip(range(length), grams, strict=False):
            row[place] = 1 + zlib.crc32(gram.encode()) % (buckets - 1)
    return out


class Text(nnx.Module):
    """The mean of the tokens' embeddings, then dense layers with ReLU; dropout after the mean and
    after each hidden layer.
    """

    def __init__(
        self, buckets: int, classes: int, width: int, hidden: Sequence[int], rngs: nnx.Rngs
    ):
        self.tokens = nnx.Embed(buckets, width, rngs=rngs)
        sizes = (width, *hidden)
        self.hidden = nnx.List(
            [nnx.Linear(a, b, rngs=rngs) for a, b in zip(sizes, hidden, strict=False)]
        )
        self.last = nnx.Linear(sizes[-1], classes, rngs=rngs)

    def embed(self, x, rngs=None, rate=0.0):
        there = (x != PADDING)[..., None]
        # divided by the square root: means of many independent tokens would shrink
        x = jnp.sum(jnp.where(there, self.tokens(x), 0.0), axis=1) / jnp.sqrt(
            jnp.maximum(there.sum(axis=1), 1)
        )
        x = dropout(x, rngs, rate, x.shape)
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
            x = dropout(x, rngs, rate, x.shape)
        return x

    def __call__(self, x, rngs=None, rate=0.0):
        return self.last(self.embed(x, rngs, rate))


def text(buckets: int, classes: int, *, width: int = 64, hidden: Sequence[int] = (64,)) -> Network:
    """Small text encoder: a bag of token embeddings, dense layers, dropout at `HParams.dropout`.

    One example is a vector of integer ids in [0, buckets), of any tokenizer or of
    `networks.hashed`; 0 is padding and changes nothing. The order of tokens counts as far as
    n-grams hold it.

    Args:
      buckets: how many ids there are, 0 included.
      classes: how many classes.
      width: numbers per token.
      hidden: widths of the dense layers between.
    References:
      Joulin et al. 2017, https://arxiv.org/abs/1607.01759

    >>> network, x = text(8192, 2), jnp.asarray(hashed(["a film to remember"]))
    >>> network.apply(network.init(jax.random.key(0), x[0]), x[0], None, 0.0).shape
    (2,)
    """
    _checks.at_least(2, buckets, "buckets")
    return from_nnx(
        lambda rngs: Text(buckets, classes, width, tuple(hidden), rngs), embed="embed", rate="rate"
    )
