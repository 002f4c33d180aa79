"""What does a posterior cost beside one trained net? `python -m experiments.benchmarks.posteriors
[name ...]`

For each reference net, in one process, the posteriors taking turns (so a busy neighbour hurts all
alike): a fit on LABELS labels, relative to the fit of `point`; and drawing DRAWS functions and
predicting ROWS points with them, relative to one forward pass of the net over those points. Medians
of REPEATS turns, in processor seconds (which a busy machine changes less than seconds on the wall).
With names, only posteriors whose name contains one of them, beside `point`.
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp

from bayesal import networks, posteriors
from bayesal.predictive import bind
from bayesal.types import HParams, Labeled

REPEATS, LABELS, CAPACITY, DRAWS, ROWS = 5, 100, 200, 50, 2000
NETS = {
    "mlp(64, 10)": (networks.mlp(64, 10), (64,), 300),
    "cnn, 28x28": (networks.cnn((28, 28, 1), 10), (28, 28, 1), 20),
}  # network, example, steps
POSTERIORS = {
    "point": posteriors.point,
    "mc_dropout": posteriors.mc_dropout,
    "ensemble of 5": lambda net: posteriors.ensemble(net, members=5),
    "variational": posteriors.variational,
    "laplace, kron": posteriors.last_layer_laplace,
    "laplace, full": lambda net: posteriors.last_layer_laplace(net, structure="full"),
    "laplace, diag": lambda net: posteriors.last_layer_laplace(net, structure="diag"),
    "laplace_all": posteriors.linearized_laplace,
    "swag": posteriors.swag,
    "sgmcmc": posteriors.sgmcmc,
    "gp": lambda net: posteriors.gp_classification(10),
    "any_of, 3 widths": lambda net: posteriors.any_of(
        posteriors.mc_dropout(net),
        *(posteriors.mc_dropout(networks.mlp(64, 10, (w, w))) for w in (64, 256)),
    ),
    "laplace, sngp": lambda net: posteriors.last_layer_laplace(networks.sngp(64, 10)),
    "nuts, last layer": lambda net: posteriors.nuts(net, on="last", warmup=100, samples=13),
    "preference": lambda net: posteriors.preference(),
}

FLAT = ("any_of, 3 widths", "laplace, sngp", "preference")  # for examples of 64 numbers only


def in_turns(ways):
    """The median processor seconds of every way, the ways taking turns."""
    for run in ways.values():
        jax.block_until_ready(run())
    times = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, run in ways.items():
            start = time.process_time()
            jax.block_until_ready(run())
            times[name].append(time.process_time() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def pairs(x):
    """Every example as two items of half its numbers each."""
    return x.reshape(len(x), 2, -1)


def costs(network, shape, steps, names):
    """Seconds of fits, seconds of predictions (with "one forward pass"), and how many draws each
    posterior makes.
    """
    x = jax.random.uniform(jax.random.key(0), (ROWS, *shape))
    labeled = Labeled(x[:CAPACITY], jnp.arange(CAPACITY) % 10, jnp.int32(LABELS))
    hparams = HParams(*(jnp.float32(v) for v in HParams()[:4]), jnp.int32(steps))
    params = network.init(jax.random.key(1), x[0])
    forward = jax.jit(
        lambda params, x: jax.vmap(lambda xi: network.apply(params, xi, None, 0.0))(x)
    )
    fits, predictions, draws = {}, {"one forward pass": lambda: forward(params, x)}, {}
    for name in names:
        posterior = POSTERIORS[name](network)
        draws[name] = posterior.members or DRAWS
        pool, known = (
            (x, labeled)
            if name != "preference"
            else (pairs(x), labeled._replace(x=pairs(labeled.x), y=labeled.y % 2))
        )
        start = jax.jit(posterior.init)(jax.random.key(1), pool[0])
        fit = jax.jit(posterior.fit)
        state, _ = fit(jax.random.key(2), start, known, hparams)
        predict = jax.jit(
            lambda key, state, x, p=posterior, k=draws[name]: bind(p, state, p.draw(key, state, k))(
                x
            )
        )
        fits[name] = lambda fit=fit, start=start, known=known: fit(
            jax.random.key(2), start, known, hparams
        )
        predictions[name] = lambda predict=predict, state=state, pool=pool: predict(
            jax.random.key(3), state, pool
        )
    return in_turns(fits), in_turns(predictions), draws


def main():
    chosen = [
        name
        for name in POSTERIORS
        if name == "point" or not sys.argv[1:] or any(part in name for part in sys.argv[1:])
    ]
    print(
        f"{jax.default_backend()}; {LABELS} labels of {CAPACITY}; {ROWS} points; medians of "
        f"{REPEATS} turns, processor seconds"
    )
    for title, (network, shape, steps) in NETS.items():
        here = [name for name in chosen if name not in FLAT or shape == (64,)]
        fits, predictions, draws = costs(network, shape, steps, here)
        once = predictions["one forward pass"]
        print(f"{title}: {steps} steps; one forward pass {once * 1e3:.1f} ms")
        print(
            "  "
            f"{'posterior':<16}{'fit, ms':>10}{'/ point':>9}{'draws':>7}"
            f"{'draw + predict, ms':>20}{'/ one pass':>12}"
        )
        for name in here:
            fit, predicted = fits[name], predictions[name]
            print(
                "  "
                f"{name:<16}{fit * 1e3:>10.1f}{fit / fits['point']:>9.2f}{draws[name]:>7}"
                f"{predicted * 1e3:>20.1f}{predicted / once:>12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
