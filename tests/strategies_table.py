"""Every strategy on every pool: what comes out, cell by cell, and the table of it for the docs.

`python -m tests.strategies_table > docs/strategies.md` writes the table anew.
"""

import functools
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from bayesal import acquire, choose, errors, pools, predictive, scores

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)  # before the first array; the tests' conftest too

ROWS, FEATURES, CLASSES, DRAWS, SIZE = 203, 5, 3, 6, 4  # 203 is a multiple of no number of devices
ON_DEVICE, ON_HOST = 60, 64  # rows of a chunk in these tests: several, the last one short

JOINT = {"configurations": 30, "candidates": 40}
STRATEGIES = {
    "badge": acquire.badge(),
    "bait": acquire.bait(),
    "batch_bald": acquire.batch_bald(**JOINT),
    "batch_epig": acquire.batch_epig(20, **JOINT),
    "combined": acquire.combined(scores.bald, scores.margin),
    "dpp": acquire.dpp(),
    "drop_query": acquire.drop_query(iterations=3),
    "epig": acquire.epig(20),
    "k_center": acquire.k_center(),
    "k_means": acquire.k_means(iterations=3),
    "k_means_pp": acquire.k_means_pp(),
    "log_det_gaussian": acquire.log_det_gaussian(),
    "power": acquire.power(beta=8.0),
    "prefilter": acquire.prefilter(50, scores.entropy, acquire.top(scores.bald)),
    "softmax": acquire.softmax(scores.margin, beta=8.0),
    "softrank": acquire.softrank(),
    "top": acquire.top(scores.bald),
    "typiclust": acquire.typiclust(iterations=3),
    "uniform": acquire.uniform(),
    "batch_epig, real labels": acquire.batch_epig(20, candidates=40),
    "epig, real labels": acquire.epig(20),
    "top, real labels": acquire.top(scores.regression.bald),
}
# of real labels; all others are of classes
REAL = {"log_det_gaussian", *(name for name in STRATEGIES if name.endswith("real labels"))}

X = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
X[7, 1] = np.nan  # one row is broken
AVAILABLE = np.random.default_rng(1).random(ROWS) < 0.8
AVAILABLE[7] = True
WEIGHTS = jnp.asarray(
    np.random.default_rng(2).normal(size=(DRAWS, FEATURES, CLASSES)).astype(np.float32)
)


def _log_probs(weights, x):
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights, precision="highest"), axis=-1)


def _moments(weights, x):
    means = jnp.einsum("nf,kf->kn", x, weights[..., 0], precision="highest")
    return means, 0.1 + means**2


def _features(x):
    return 2.0 * x


MODELS = {
    False: predictive.from_samples(
        jax.tree_util.Partial(_log_probs, WEIGHTS), DRAWS, embed=_features
    ),
    True: predictive.from_samples(
        moments=jax.tree_util.Partial(_moments, WEIGHTS), num_draws=DRAWS, embed=_features
    ),
}


class _Written:
    """A function as a person writes it, with features."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)

    def embed(self, x):
        return self.model.embed(x)


class _OfNumPy(_Written):
    """The same numbers, for NumPy arrays only."""

    def __call__(self, x):
        assert type(x) is np.ndarray
        return jax.tree.map(np.asarray, _seen(self.model, x))

    def embed(self, x):
        return 2.0 * x


@jax.jit
def _compiled(model, x):
    return model(x)


def _seen(model, x):
    return _compiled(model, jnp.asarray(x))


class _Frame:
    def to_numpy(self):
        return X


@functools.cache
def _folder():
    folder = tempfile.TemporaryDirectory()
    np.save(Path(folder.name) / "x.npy", X)
    return folder


def _file():
    return Path(_folder().name) / "x.npy"


def _numbers(real, features=None):
    said = jax.tree.map(np.asarray, _seen(MODELS[real], X))
    if real:
        return pools.numbers(moments=tuple(said), features=features)
    return pools.numbers(log_probs=said, axes="K N C", features=features)


def _explicit():
    """203 rows on 7 devices: Explicit axes split evenly only."""
    devices = jax.devices()[:7]
    axes = {"axis_types": (AxisType.Explicit,), "devices": devices}
    mesh = jax.make_mesh((7,), ("rows",), **axes)
    return jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows")))


# a pool by its name: real labels or not -> what `choose` is given as predictive and pool
TABLE = {
    "array": lambda real: (MODELS[real], X),
    "file": lambda real: (MODELS[real], _file()),
    "mesh of 8": lambda real: (MODELS[real], pools.sharded(X)),
    "numbers": lambda real: (None, _numbers(real, 2.0 * X)),
    "numbers, no features": lambda real: (None, _numbers(real)),
    "JAX function": lambda real: (_Written(MODELS[real]), X),
    "NumPy function": lambda real: (_OfNumPy(MODELS[real]), X),
}
OTHERS = {
    "JAX array": lambda real: (MODELS[real], jnp.asarray(X)),
    "list": lambda real: (MODELS[real], X.tolist()),
    "frame": lambda real: (MODELS[real], _Frame()),
    "big endian": lambda real: (MODELS[real], X.astype(">f4")),
    "path in words": lambda real: (MODELS[real], str(_file())),
    "memory map": lambda real: (MODELS[real], np.load(_file(), mmap_mode="r")),
    "iterator": lambda real: (MODELS[real], lambda: iter(np.split(X, [3, 3, 40, 170]))),
    "sparse": lambda real: (MODELS[real], scipy.sparse.csr_matrix(X)),
    "Explicit axes": lambda real: (MODELS[real], _explicit()),
    "one device": lambda real: (MODELS[real], pools.sharded(X, pools.mesh(jax.devices()[:1]))),
    "NumPy function, file": lambda real: (_OfNumPy(MODELS[real]), _file()),
}
POOLS = TABLE | OTHERS
REASONS = {
    errors.MissingEmbed: {"features": "needs `features`"},
    errors.WrongShape: {"pool": "needs vectors"},
}


@functools.cache
def picked(strategy, pool):
    """The selection, or the error."""
    model, rows = POOLS[pool](strategy in REAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "1 available points have NaN")
            return choose(3, model, rows, SIZE, STRATEGIES[strategy], available=AVAILABLE)
    except errors.BayesalError as error:
        return error


def cell(strategy, pool):
    """ "ok" where the batch is that of the array, the reason where it is refused."""
    found, want = picked(strategy, pool), picked(strategy, "array")
    if isinstance(found, errors.BayesalError):
        return REASONS[type(found)][found.argument]
    np.testing.assert_array_equal(found.indices, want.indices)
    np.testing.assert_allclose(found.scores, want.scores, atol=1e-5)
    for field in ("nonfinite", "constant", "certified"):
        np.testing.assert_array_equal(getattr(found, field), getattr(want, field))
    return "ok"


def markdown(of=cell):
    """The table as a page."""
    head = [
        "# Which strategy runs on which pool",
        "",
        "What `bayesal.choose` does with every strategy of `bayesal.acquire` on every kind of pool "
        "and model. `ok`: the batch is that of the array, row for row. Anything else says why it "
        "is refused. [Pictures of batches](gallery/index.md).",
        "",
        "```python",
        "import numpy as np, bayesal",
        "from bayesal import acquire, pools",
        "",
        "rng = np.random.default_rng(0)",
        "probs, vectors = rng.dirichlet(np.ones(3), (200, 20)), rng.normal(size=(200, 8))",
        'pool = pools.numbers(probs=probs, axes="N K C", features=vectors)',
        "for strategy in (acquire.power(), acquire.k_center()):",
        "    print(strategy, bayesal.choose(0, None, pool, 5, strategy).indices)",
        "```",
        "",
        "| strategy | " + " | ".join(TABLE) + " |",
        "|---" * (len(TABLE) + 1) + "|",
    ]
    rows = [
        f"| `{name}` | " + " | ".join(of(name, pool) for pool in TABLE) + " |"
        for name in STRATEGIES
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
