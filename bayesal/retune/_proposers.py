"""Proposal of candidates, in the unit cube of a search space.

A proposer is two pure functions: `ask` gives points to try, `tell` adds a round's results to what
is known. All run inside the round's compiled program.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import errors
from bayesal.retune import _spaces as spaces
from bayesal.retune._history import History
from bayesal.types import Array, HParams, Key

__all__ = ["Proposer", "gp_proposer", "local_proposer"]

RECENT = 128  # candidates of the past that a surrogate looks at
POOL = 256  # points among which a surrogate looks for its proposals
GUESSES = 48  # hyperparameters of the surrogate itself that are weighed by their evidence
WORST = 3.0  # standardized differences are cut here, and diverged candidates have this one


class Proposer(NamedTuple):
    """Strategy of proposal: a pair of pure functions.

    ask:  `(key, history, space, incumbent, size) -> units [size, D]`, points of the unit cube to
      try beside the incumbent.
    tell: `(history, tried) -> history`, with the results of a round; None: `history.remember`.
    """

    ask: Callable[[Key, History, HParams, HParams, int], Float[Array, "P D"]]
    tell: Callable[[History, History], History] | None = None


def local_proposer(local: float = 0.5, width: float = 0.2) -> Proposer:
    """Propose neighbors of the incumbent and uniform points; earlier rounds are not used.

    Args:
      local: share of the points that are neighbors: normal steps of `width` along every axis of the
        cube.
      width: of those steps; a choice without order is made anew with this chance.
    Raises:
      OutOfRange: a share or a width that is none.
    """
    for name, value in (("local", local), ("width", width)):
        if not 0 <= value <= 1:
            raise errors.OutOfRange(name, f"`{name}` = {value} must lie in [0, 1].")

    def ask(key, history, space, incumbent, size):
        del history
        center, neighbors = spaces.ranks(space, incumbent), round(local * size)
        luck, fresh = _uniforms(
            key, (3, neighbors, center.shape[0]), (size - neighbors, center.shape[0])
        )
        return jnp.concatenate([_around(luck, center, width, space), fresh])

    return Proposer(ask)


def gp_proposer(fresh: float = 0.25, fading: float = 10.0) -> Proposer:
    """Propose by Thompson sampling from a Gaussian process fitted to all recent rounds.

    The process sees, for each candidate of the past, its loss less its incumbent's, in units of the
    median distance of its run's candidates to their median, and of their standard error at least.
    It knows that runs differ by a constant, that few folds tell less, and that rounds fade: what
    was learned `fading` rounds ago counts 1/e of what was learned now. Its length along each axis
    and its noise are drawn from a broad prior and weighed by their evidence, so that axes which do
    not matter are found out. Each proposal is the best of 256 points by one function drawn from the
    process.

    Args:
      fresh: share of the points that are drawn from the whole space all the same, at least one of
        two or more: the best place moves as labels come in.
      fading: rounds.
    Raises:
      OutOfRange: a share outside [0, 1], or a fading that is not positive.
    References:
      Snoek, Larochelle & Adams 2012 (evidence-weighed hyperparameters); Swersky, Snoek & Adams 2013
      (related tasks); Kandasamy et al. 2018 (Thompson sampling in parallel).
    """
    if not 0 <= fresh <= 1:
        raise errors.OutOfRange("fresh", f"`fresh` = {fresh} must lie in [0, 1].")
    if not fading > 0:
        raise errors.OutOfRange("fading", f"`fading` = {fading} must be > 0 rounds.")

    def ask(key, history, space, incumbent, size):
        anew = min(size, max(int(size > 1), round(fresh * size)))
        center = spaces.ranks(space, incumbent)
        axes, number = center.shape[0], size - anew
        everywhere, wide, near, lengths, noise_variances, which, values = _uniforms(
            key,
            (anew, axes),
            (POOL // 2, axes),
            (3, POOL - POOL // 2, axes),
            (GUESSES, axes),
            (GUESSES,),
            (number, GUESSES),
            (number, POOL),
        )
        if anew == size:
            return everywhere
        pool = jnp.concatenate([wide, _around(near, center, 0.15, space)])
        pool = spaces.ranks(
            space, spaces.values(space, pool, incumbent)
        )  # as they would be tried: whole steps, the middle of a choice
        luck = Luck(
            _between(lengths, 0.15, 4.0),
            _between(noise_variances, 0.03, 1.0),
            -jnp.log(-jnp.log(which)),
            _normals(values),
        )
        return jnp.concatenate(
            [
                pool[_thompson(luck, recent(history, space), pool, _unordered(space), fading)],
                everywhere,
            ]
        )

    return Proposer(ask)


class Seen(NamedTuple):
    """What a surrogate learns from: points, standardized differences, rounds before the last, runs,
    by how much the noise is larger for having seen fewer folds, and which count."""

    units: Float[Array, "R D"]
    values: Float[Array, " R"]
    ages: Float[Array, " R"]
    gos: Int[Array, " R"]
    louder: Float[Array, " R"]
    valid: Bool[Array, " R"]


class Luck(NamedTuple):
    """What a surrogate leaves to chance: its hyperparameters to weigh, which of them each proposal
    takes (Gumbel), and its function (normal).
    """

    lengths: Float[Array, "G D"]
    noise_variances: Float[Array, " G"]
    which: Float[Array, "P G"]
    functions: Float[Array, "P Q"]


def _uniforms(key: Key, *shapes: tuple[int, ...]) -> list[Array]:
    """Uniform numbers in (0, 1) of several shapes, drawn at once: each call for random numbers
    takes long to compile.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    flat = jax.random.uniform(key, (int(ends[-1]),), jnp.float32, minval=2.0**-24, maxval=1.0)
    return [
        part.reshape(shape) for part, shape in zip(jnp.split(flat, ends[:-1]), shapes, strict=True)
    ]


def _normals(uniforms: Array) -> Array:
    return math.sqrt(2.0) * jax.lax.erf_inv(2.0 * uniforms - 1.0)


def _between(uniforms: Array, low: float, high: float) -> Array:
    """Log-uniform between two bounds."""
    return jnp.exp(math.log(low) + uniforms * math.log(high / low))


def _around(
    luck: Float[Array, "3 P D"], center: Float[Array, " D"], width: float, space: HParams
) -> Float[Array, "P D"]:
    """Neighbors, of uniform numbers; choices without order jump anywhere, with the
    chance `width`.
    """
    near = jnp.clip(center[None] + width * _normals(luck[0]), 0.0, 1.0)
    anywhere = jnp.where(luck[1] < width, luck[2], center[None])
    return jnp.where(_unordered(space)[None], anywhere, near)


def _unordered(space: HParams) -> Bool[Array, " D"]:
    return jnp.asarray([getattr(space, name).choices > 0 for name in spaces.searched(space)])


def recent(history: History, space: HParams) -> Seen:
    """The last candidates, the differences of each run standardized and cut."""
    places = history.losses.shape[0]
    at = (history.count - 1 - jnp.arange(min(RECENT, places))) % places
    take = lambda values: values[at]
    valid, rounds, gos, differences, folds = (
        take(a)
        for a in (history.written, history.round, history.go, history.differences, history.folds)
    )
    usable = valid & jnp.isfinite(differences)
    mates = (gos[:, None] == gos[None]) & usable[None]
    among = lambda values: jnp.nanmedian(jnp.where(mates, values, jnp.nan), axis=1)
    median = among(differences[None])
    spread = jnp.maximum(
        1.5 * among(jnp.abs(differences[None] - median[:, None])), among(take(history.errors)[None])
    )
    scaled = jnp.clip((differences - median) / jnp.maximum(spread, 1e-6), -WORST, WORST)
    louder = jnp.max(folds) / jnp.maximum(folds, 1)
    return Seen(
        spaces.ranks(space, jax.tree.map(take, history.candidates)),
        jnp.where(usable, scaled, WORST),
        (rounds[0] - rounds).astype(jnp.float32),
        gos,
        louder.astype(jnp.float32),
        valid,
    )


def _thompson(
    luck: Luck, seen: Seen, pool: Float[Array, "Q D"], choices: Bool[Array, " D"], fading: float
) -> Array:
    """Rows of the pool, each the lowest of one function drawn from the process; no point twice
    while there is another.
    """
    fade = jnp.exp(-jnp.abs(seen.ages[:, None] - seen.ages[None]) / fading)
    both = seen.valid[:, None] & seen.valid[None]
    target = jnp.where(seen.valid, seen.values, 0.0)
    past = jnp.exp(-seen.ages / fading)

    def fit(length, noise_variance):
        same = (seen.gos[:, None] == seen.gos[None]).astype(jnp.float32)
        kernel = jnp.where(
            both, fade * _kernel(seen.units, seen.units, length, choices) + same, 0.0
        )
        factor = jnp.linalg.cholesky(
            kernel + jnp.diag(jnp.where(seen.valid, noise_variance * seen.louder, 1.0))
        )
        white = jax.scipy.linalg.solve_triangular(factor, target, lower=True)
        return factor, white, -0.5 * jnp.sum(white**2) - jnp.sum(jnp.log(jnp.diagonal(factor)))

    evidence = jax.lax.map(lambda guess: fit(*guess)[2], (luck.lengths, luck.noise_variances))
    drawn = jnp.argmax(evidence[None] + luck.which, axis=1)

    def propose(taken, args):
        normal, guess = args
        factor, white, _ = fit(luck.lengths[guess], luck.noise_variances[guess])
        across = jnp.where(
            seen.valid[:, None],
            past[:, None] * _kernel(seen.units, pool, luck.lengths[guess], choices),
            0.0,
        )
        solved = jax.scipy.linalg.solve_triangular(factor, across, lower=True)
        covariance = _kernel(pool, pool, luck.lengths[guess], choices) - solved.T @ solved
        root = jnp.linalg.cholesky(covariance + 1e-3 * jnp.eye(pool.shape[0]))
        values = solved.T @ white + root @ normal
        best = jnp.argmin(jnp.where(taken | ~jnp.isfinite(values), jnp.inf, values))
        return taken | jnp.all(pool == pool[best][None], axis=1), best

    return jax.lax.scan(propose, jnp.zeros(pool.shape[0], bool), (luck.functions, drawn))[1]


def _kernel(
    a: Float[Array, "R D"],
    b: Float[Array, "Q D"],
    length: Float[Array, " D"],
    choices: Bool[Array, " D"],
) -> Float[Array, "R Q"]:
    """Matern 5/2 of unit variance; two choices without order are one unit apart."""
    gap = jnp.where(
        choices[None, None],
        (a[:, None] != b[None]).astype(jnp.float32),
        jnp.abs(a[:, None] - b[None]),
    )
    distance = jnp.sqrt(5.0) * jnp.sqrt(
        jnp.sum(jnp.square(gap / length[None, None]), axis=-1) + 1e-12
    )
    return (1.0 + distance + distance**2 / 3.0) * jnp.exp(-distance)
