"""`Predictive`: K functions of x bound to a temperature, and the binding of a posterior's draws."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from bayesal import _chunks, _shown, errors, likelihoods
from bayesal.predictive import _repeats
from bayesal.types import Array, Gaussian, Mixture, Posterior, Prediction, PyTree, Scaling

ROWS = 1024  # rows whose predictions are averaged at a time


@runtime_checkable
class Model(Protocol):
    """What a `Predictive` asks: a pytree, so that compiled programs take it as an argument."""

    def draws_at(self, x: Any, temperature: Any) -> Prediction: ...

    def average(self, x: Any, temperature: Any) -> Any: ...

    def embed(self, x: Any) -> Array: ...


@dataclasses.dataclass(frozen=True, eq=False, repr=False)  # by identity: jax.jit takes a function
class Predictive:
    """K functions of x: `predictive(x) -> [K, n, C]` tempered, normalized log-probabilities.

    They are the same K functions for every x. For real labels a `Gaussian` with means and variances
    `[K, n]` (or a `Mixture`, `[K, n, J]`) takes the place of log-probabilities. The temperature
    divides each draw's log-probabilities (a `Scaling`: class by class), which are normalized again.
    Averages over the draws: `.log_probs(x)`, `.probs(x)`, `.predict(x)`, and `.moments(x)` of real
    labels.

    Made by `bayesal.predictive_of` from a learner's state, by `bind` from a posterior's draws, and
    by `from_samples`, `from_committee` and `from_torch` from models of others.

    model:       what is asked: a posterior's draws, or a foreign function.
    temperature: a number, or a `Scaling` per class.
    """

    model: Model
    temperature: Float[Array, ""] | Scaling

    def __call__(self, x: Any) -> Prediction:
        return self.model.draws_at(x, self.temperature)

    def __repr__(self) -> str:
        return f"Predictive: {self.model!r}, T = {_shown.short(self.temperature)}"

    def log_probs(self, x: Any) -> Float[Array, "n C"]:
        """Log-probabilities averaged over draws, `log mean_k p_k`, `[n, C]`, tempered.

        Computed in chunks of 1,024 rows, as all averages. The metrics take these.

        Raises:
          WrongType: the labels are real numbers: see `moments`.
        """
        return self._average(x, self.temperature, real=False)

    def probs(self, x: Any) -> Float[Array, "n C"]:
        """Probabilities averaged over draws, `mean_k p_k`, `[n, C]`, tempered."""
        return jnp.exp(self.log_probs(x))

    def predict(self, x: Any) -> Int[Array, " n"] | Float[Array, " n"]:
        """The most probable class of each example, `[n]`, by averaged log-probabilities at T = 1.

        Tempering in float32 can merge near ties, so classes ignore the temperature. For names of
        the classes: `np.asarray(classes)[predictive.predict(x)]`. For real labels: the mean.
        """
        average = self.model.average(x, jnp.float32(1.0))
        return average.mean if isinstance(average, Gaussian) else jnp.argmax(average, axis=-1)

    def moments(self, x: Any) -> Gaussian:
        """Mean and variance of real labels over draws and noise, `[n]` each, tempered.

        Raises:
          WrongType: the labels are classes: see `log_probs` and `probs`.
        """
        return self._average(x, self.temperature, real=True)

    def _average(self, x: Any, temperature: Any, *, real: bool) -> Any:
        average = self.model.average(x, temperature)
        if isinstance(average, Gaussian) is real:
            return average
        kind, others = ("real numbers", "moments") if not real else ("classes", "log_probs")
        raise errors.WrongType(
            "predictive", f"this predictive is of labels that are {kind}: use `.{others}(x)`."
        )

    def embed(self, x: Any) -> Float[Array, "n D"]:
        """Features `[n, D]` before the last layer."""
        return self.model.embed(x)

    def checked(self, x: Any) -> "Predictive":
        """Itself, once rows `x` were predicted twice, the second time in another order and company.

        Raises:
          DrawsDiffer: a draw is not one function of x. Its dropout masks differ per row or call, or
            it normalizes by its batch.
        """
        rows = _repeats.other_order(x.shape[0])
        said = self(x)
        apart = _repeats.apart(jax.tree.map(lambda a: a[:, rows], said), self(x[rows]))
        if apart > _repeats.SAME:
            real = isinstance(said, Gaussian | Mixture)
            unit = "standard deviations" if real else "probability"
            raise errors.DrawsDiffer(
                "predictive",
                f"`predictive` answered differently for the same points (by {apart:.2g} in "
                f"{unit}). "
                "Its draws are not the same functions in every call, so joint scores would mean "
                "nothing. Use one dropout mask per draw, not one per row or call, and freeze "
                "batch statistics.",
            )
        return self


jax.tree_util.register_dataclass(Predictive, data_fields=["model", "temperature"], meta_fields=[])


@dataclasses.dataclass(frozen=True, repr=False)
class _Bound:
    """Draws of a posterior's state."""

    posterior: Posterior
    state: PyTree
    draws: PyTree

    def __repr__(self) -> str:
        return f"draws of {self.posterior.name or 'a posterior'}"

    def draws_at(self, x, temperature):
        return _draws_at(self, _dense(x), temperature)

    def average(self, x, temperature):
        return _average(self, _dense(x), temperature)

    def embed(self, x):
        if self.posterior.embed is None:
            raise errors.MissingEmbed(
                "posterior",
                "this posterior has no `embed`, and the strategy needs features. Give the network "
                "one: `from_nnx(make, embed='method')`, `from_functions(init, apply, embed=...)`, "
                "or use `networks.mlp` / `networks.cnn`.",
            )
        return _embed(self, _dense(x))


jax.tree_util.register_dataclass(_Bound, data_fields=["state", "draws"], meta_fields=["posterior"])


def bind(posterior: Posterior, state: PyTree, draws: PyTree, temperature: Any = 1.0) -> Predictive:
    """A posterior's draws as a predictive.

    Args:
      posterior: one of `bayesal.posteriors`.
      state: its fitted state.
      draws: as `posterior.draw(key, state, K)` gives.
      temperature: divides log-probabilities; a number, or a `Scaling` per class.

    >>> from bayesal import networks, posteriors
    >>> posterior = posteriors.mc_dropout(networks.mlp(2, 3))
    >>> state = posterior.init(jax.random.key(0), jnp.zeros(2))
    >>> bind(posterior, state, posterior.draw(jax.random.key(1), state, 5))(jnp.ones((4, 2))).shape
    (5, 4, 3)
    """
    scaled = isinstance(temperature, Scaling)
    return Predictive(
        model=_Bound(posterior=posterior, state=state, draws=draws),
        temperature=temperature if scaled else jnp.asarray(temperature, jnp.float32),
    )


def _dense(x: Any) -> Array:
    """Rows as an array; sparse matrices and data frames too."""
    if hasattr(x, "toarray"):
        x = x.toarray()
    return jnp.asarray(x.to_numpy() if hasattr(x, "to_numpy") else x)


def with_its_numbers(function: Any) -> Any:
    """The function as a pytree, so that JAX can take it as an argument.

    A pytree (a `Predictive`, a module, `jax.tree_util.Partial(f, params)`) is one with its arrays.
    A plain function has none, and what it closes over becomes a constant of the program.

    >>> jax.tree.leaves(with_its_numbers(jnp.sin))
    []
    >>> len(jax.tree.leaves(with_its_numbers(jax.tree_util.Partial(jnp.add, 1.0))))
    1
    """
    return jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function


@jax.jit
def _draws_at(bound: _Bound, x: Array, temperature: Any) -> Prediction:
    posterior, state = bound.posterior, bound.state
    shared, one = x, posterior.apply
    if (trunk := posterior.trunk) is not None and posterior.head is not None:
        shared, one = jax.vmap(lambda xi: trunk(state, xi))(x), posterior.head

    def one_draw(draw):
        return jax.vmap(lambda h: one(state, draw, h))(shared)

    return likelihoods.temper(_chunks.over_draws(one_draw, bound.draws), temperature)


@jax.jit
def _average(bound: _Bound, x: Array, temperature: Any) -> Float[Array, "n C"] | Gaussian:
    average = lambda part: likelihoods.average(_draws_at(bound, part, temperature))
    return _chunks.over_rows(average, x, ROWS)


@jax.jit
def _embed(bound: _Bound, x: Array) -> Float[Array, "n D"]:
    embed = bound.posterior.embed
    assert embed is not None  # refused in `_Bound.embed`
    features = jax.vmap(lambda xi: embed(bound.state, xi))
    return _chunks.over_rows(features, x, ROWS)
