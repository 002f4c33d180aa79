"""A posterior fitted to rows that all have labels, as estimators of other libraries are."""

import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, acquire, errors, loop
from bayesal.loop import checkpoint
from bayesal.posteriors import linear, logistic
from bayesal.predictive import Predictive, bind
from bayesal.types import Array, Key, Mixture, Posterior, Scaling

CHANCE = acquire.uniform()  # a learner needs a strategy, and no estimator asks
FEWEST = 128  # rows of a prediction, and labels of a fit, are padded to a power of two from here on

Factory = Callable[[int, int], Posterior]  # of the numbers of features and classes


@functools.lru_cache(maxsize=64)  # a posterior that is built again compiles again
def _built(factory: Factory, features: int, classes: int) -> Posterior:
    made = factory(features, classes)
    return _checks.a(Posterior, made, "posterior", "posteriors.logistic(classes)")


def _head(features: int, classes: int) -> Posterior:
    del features
    return logistic(classes) if classes else linear()


def posterior_of(given: Any, features: int, classes: int) -> Posterior:
    """The posterior that an estimator was given: one, a factory of them, or None.

    Args:
      classes: C; 0 where labels are real numbers.
    """
    if given is not None and not isinstance(given, Posterior) and not callable(given):
        raise errors.WrongType(
            "posterior",
            "`posterior` must be a Posterior, or a function of the numbers of features and classes "
            f"that makes one; got {type(given).__name__}.",
        )
    made = given if isinstance(given, Posterior) else _built(given or _head, features, classes)
    if made.real is (classes > 0):
        kinds = ("classes", "real numbers")
        raise errors.WrongType(
            "posterior",
            f"`posterior` is of {kinds[made.real]}, and these labels are {kinds[not made.real]}.",
        )
    return made


def fitted(
    posterior: Posterior,
    x: np.ndarray,
    y: np.ndarray,
    *,
    seed: int,
    num_draws: int | None,
    weights: Any = None,
    calibrate: Any = None,
    retune: Any = None,
    hparams: Any = None,
) -> Predictive:
    """What a learner knows after it was told all labels at once."""
    rows = padded(x)
    learner = loop.learner(
        posterior,
        CHANCE,
        size=1,
        capacity=len(rows),
        num_draws=num_draws,
        retune=retune,
        calibrate=calibrate,
        hparams=hparams,
    )
    state = learner.tell(learner.init(seed, rows), rows, np.arange(len(x)), y, weights=weights)
    return loop.predictive_of(posterior, state, num_draws)


def padded(x: np.ndarray) -> np.ndarray:
    """Rows of zeros after those of `x`, so that one program serves every number of rows."""
    wanted = max(FEWEST, 1 << (len(x) - 1).bit_length())
    return np.concatenate([x, np.zeros((wanted - len(x), *x.shape[1:]), x.dtype)])


def of(estimator: Any, x: np.ndarray, y: np.ndarray, weights: Any, classes: int) -> Predictive:
    """The fitted posterior of an estimator with the parameters of `BayesianClassifier`."""
    return fitted(
        posterior_of(estimator.posterior, x.shape[1], classes),
        x,
        y,
        weights=weights,
        seed=seed_of(estimator.random_state),
        num_draws=estimator.num_draws,
        calibrate=estimator.calibrate,
        retune=estimator.retune,
        hparams=estimator.hparams,
    )


def rows_of(estimator: Any, x: Any) -> np.ndarray:
    """Rows for a fitted estimator, checked."""
    from sklearn.utils.validation import check_is_fitted, validate_data

    check_is_fitted(estimator)
    return validate_data(estimator, x, dtype=np.float32, reset=False)


def draws_of(estimator: Any, num_draws: int | None, random_state: Any) -> Predictive:
    """The draws that predict, or as many others of the same posterior."""
    found = estimator.predictive_
    if num_draws is None and random_state is None:
        return found
    bound: Any = found.model
    count = _count(found) if num_draws is None else _checks.at_least(1, num_draws, "n_samples")
    seed = seed_of(estimator.random_state if random_state is None else random_state)
    draws = bound.posterior.draw(jax.random.key(seed), bound.state, count)
    return bind(bound.posterior, bound.state, draws, found.temperature)


def labels(key: Key, said: Any) -> Array:
    """One real label per draw and row `[K, n]`, with its noise."""
    which, noise = jax.random.split(key)
    if isinstance(said, Mixture):
        at = jax.random.categorical(which, said.log_weight)[..., None]
        mean, variance = (
            jnp.take_along_axis(part, at, -1)[..., 0] for part in (said.mean, said.variance)
        )
    else:
        mean, variance = said
    return mean + jnp.sqrt(variance) * jax.random.normal(noise, mean.shape)


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn calls a random state: an int, a generator, or None."""
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))


class Kept:
    """What estimators do when they are cloned and pickled."""

    def __sklearn_clone__(self) -> Any:
        """An unfitted estimator of the same parameters. They are shared, not copied: a copied
        posterior would compile again. A generator is copied, for it changes.
        """
        given = self.get_params(deep=False)  # type: ignore[attr-defined]
        return type(self)(**{**given, "random_state": copy.deepcopy(given["random_state"])})

    def __getstate__(self) -> dict[str, Any]:
        """No function, unless a parameter is one: draws are a checkpoint."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        found = state.get("predictive_")
        return state if found is None else {**state, "predictive_": stored(found)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        mine: Any = self
        if getattr(mine, "predictive_", None) is not None:
            features, classes = mine.n_features_in_, len(getattr(mine, "classes_", ()))
            posterior = posterior_of(mine.posterior, features, classes)
            mine.predictive_ = rebuilt(mine.predictive_, posterior, features)


def stored(predictive: Predictive) -> dict[str, Any]:
    """A predictive without its functions, for a pickle: a checkpoint, and how many draws."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(path := Path(folder) / "predictive.npz", predictive)
        temperature = predictive.temperature
        return {
            "checkpoint": path.read_bytes(),
            "draws": _count(predictive),
            "scaled": len(temperature.bias) if isinstance(temperature, Scaling) else 0,
        }


def rebuilt(found: dict[str, Any], posterior: Posterior, features: int) -> Predictive:
    """What `stored` was given; the posterior is built anew."""
    key = jax.random.key(0)
    state = posterior.init(key, jnp.zeros(features))
    one = jnp.ones(found["scaled"])
    temperature = Scaling(temperature=one, bias=one) if found["scaled"] else 1.0
    like = bind(posterior, state, posterior.draw(key, state, found["draws"]), temperature)
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "predictive.npz").write_bytes(found["checkpoint"])
        return checkpoint.restore(path, like)


def _count(predictive: Predictive) -> int:
    bound: Any = predictive.model
    return jax.tree.leaves(bound.draws)[0].shape[0]
