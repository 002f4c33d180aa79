"""Are the choices of `bayesal/_chunks.py` and `networks.conv` still the faster ones here? `python
-m experiments.benchmarks.copies`

Each on the reference nets: a training step inside a compiled loop, with XLA's convolution or with
ours (and called from Python, one jitted step at a time); MC-dropout passes over draws; fits of a
population or an ensemble; chains of NUTS, compiled and run. The ways of one question take turns,
REPEATS times (compiling: once); the median is shown, and its ratio to what the library does here
(marked `*`).
"""

import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from bayesal import _chunks, _training, networks, posteriors
from bayesal.networks import _reference as reference
from bayesal.types import HParams, Labeled

REPEATS = 5
SHAPE = (28, 28, 1)


def loops(over, *args):
    """Whether the library's `over` is a loop on this backend, for such arguments (seen in its
    program, not assumed).
    """
    return "scan" in str(jax.make_jaxpr(lambda *args: over(lambda *one: one, *args))(*args))


def interleaved(ways, repeats=REPEATS):
    """The median seconds of every way, the ways taking turns."""
    for run in ways.values():
        jax.block_until_ready(run())
    times = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def show(question, ways, chosen, each=1, repeats=REPEATS):
    medians = interleaved(ways, repeats)
    fastest = min(medians, key=medians.get)
    holds = medians[chosen] <= 1.1 * medians[fastest]
    for at, (name, seconds) in enumerate(medians.items()):
        title, mark = "" if at else question, "*" if name == chosen else " "
        verdict = ("yes" if holds else f"NO: {fastest}") if name == chosen else ""
        print(
            f"{title:<46}{mark}{name:<24}{seconds / each * 1e3:>9.2f}"
            f"{seconds / medians[chosen]:>8.2f} "
            ""
            ""
            ""
            ""
            ""
            f" {verdict}",
            flush=True,
        )


def training_step(steps=4, batch=32):
    x, y = jax.random.uniform(jax.random.key(0), (batch, *SHAPE)), jnp.arange(batch) % 10
    ours = networks.cnn(SHAPE, 10)
    with mock.patch.object(reference, "conv", jax.lax.conv_general_dilated):
        xla = networks.cnn(SHAPE, 10)
    params, adam = ours.init(jax.random.key(1), x[0]), optax.adam(1e-3)
    start = params, adam.init(params)

    def step(net):
        loss = _training.nll(net, 0.3)
        rows = _training.Minibatch(x, y, jnp.ones(batch), jnp.float32(batch))

        def one(i, carry):
            params, moments = carry
            updates, moments = adam.update(
                jax.grad(loss)(params, jax.random.fold_in(jax.random.key(2), i), rows), moments
            )
            return optax.apply_updates(params, updates), moments

        return one

    def inside(net):
        run = jax.jit(lambda steps, carry: jax.lax.fori_loop(0, steps, step(net), carry))
        return lambda: run(jnp.int32(steps), start)

    def outside(net):
        one = jax.jit(step(net))

        def run():
            carry = start
            for i in range(steps):
                carry = one(jnp.int32(i), carry)
            return carry

        return run

    ways = {
        "loop, networks.conv": inside(ours),
        "loop, XLA's conv": inside(xla),
        "Python, XLA's conv": outside(xla),
        "Python, networks.conv": outside(ours),
    }
    show(f"train cnn, ms/step of {batch} rows", ways, "loop, networks.conv", steps)


def passes(name, network, x, draws):
    posterior = posteriors.mc_dropout(network)
    state = posterior.init(jax.random.key(0), x[0])._replace(rate=jnp.float32(0.3))
    keys = posterior.draw(jax.random.key(1), state, draws)

    def through(over):
        run = jax.jit(
            lambda state, keys, x: over(
                lambda k: jax.vmap(lambda xi: posterior.apply(state, k, xi))(x), keys
            )
        )
        return lambda: run(state, keys, x)

    ways = {"lax.map": through(jax.lax.map), "vmap": through(lambda f, a: jax.vmap(f)(a))}
    show(
        f"{draws} dropout passes of {name}, {x.shape[0]} rows",
        ways,
        "lax.map" if loops(_chunks.over_draws, keys) else "vmap",
    )


def fits(name, network, x, number, steps):
    labeled = Labeled(x, jnp.arange(x.shape[0]) % 10, jnp.int32(x.shape[0]))
    posterior = posteriors.mc_dropout(network)

    keys = jax.random.split(jax.random.key(0), number)
    states = jax.jit(lambda keys: jax.lax.map(lambda key: posterior.init(key, x[0]), keys))(keys)

    def one(key, state):
        return posterior.fit(key, state, labeled, HParams(steps=jnp.int32(steps)))[0]

    def through(over):
        run = jax.jit(lambda keys, states: over(one, keys, states))
        return lambda: run(keys, states)

    ways = {
        "vmap": through(lambda f, *args: jax.vmap(f)(*args)),
        "lax.map": through(lambda f, *args: jax.lax.map(lambda a: f(*a), args)),
    }
    show(
        f"{number} fits of {name}, {steps} steps",
        ways,
        "lax.map" if loops(_chunks.over_fits, keys, states) else "vmap",
    )


def chains(name, network, x, number):
    labeled = Labeled(x, jnp.arange(x.shape[0]) % 10, jnp.int32(x.shape[0]))
    posterior = posteriors.nuts(network, warmup=50, samples=10, chains=number)
    state = posterior.init(jax.random.key(0), x[0])

    def program(over):
        def fit(key, state, labeled):
            with mock.patch.object(_chunks, "over_chains", over):
                return posterior.fit(key, state, labeled, HParams(steps=jnp.int32(50)))[0]

        return jax.jit(fit)  # a new function: compiled anew

    def through(over):
        run = program(over)
        return lambda: run(jax.random.key(1), state, labeled)

    overs = {
        "lax.map": lambda f, *a: jax.lax.map(lambda each: f(*each), a),
        "vmap": lambda f, *a: jax.vmap(f)(*a),
    }
    chosen = "lax.map" if loops(_chunks.over_chains, jnp.zeros(2)) else "vmap"
    compiling = {
        way: lambda over=over: (
            program(over).lower(jax.random.key(1), state, labeled).compile() and 0
        )
        for way, over in overs.items()
    }
    show(f"compile {number} NUTS chains of {name}", compiling, chosen, repeats=1)
    show(
        f"run {number} NUTS chains of {name}",
        {way: through(over) for way, over in overs.items()},
        chosen,
    )


def main():
    print(
        f"{jax.default_backend()}; median of {REPEATS} interleaved; * = what the library does here"
    )
    print(f"{'':<47}{'way':<24}{'ms':>9}{'ratio':>8}  still fastest (within 10 %)?")
    digits, images = (
        jax.random.uniform(jax.random.key(3), (1024, 64)),
        jax.random.uniform(jax.random.key(4), (128, *SHAPE)),
    )
    training_step()
    passes("cnn", networks.cnn(SHAPE, 10), images, 10)
    passes("mlp(64, 10)", networks.mlp(64, 10), digits, 50)
    fits("mlp(64, 10)", networks.mlp(64, 10), digits[:200], 24, 100)
    fits(
        "mlp(784, 10, (512, 512))",
        networks.mlp(784, 10, (512, 512)),
        images.reshape(-1, 784),
        10,
        10,
    )
    fits("cnn", networks.cnn(SHAPE, 10), images, 10, 4)
    chains("mlp(64, 10, (16,))", networks.mlp(64, 10, (16,)), digits[:100], 4)


if __name__ == "__main__":
    main()
