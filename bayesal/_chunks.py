"""How the copies of a function run: over the rows of a pool in constant memory, over draws, over
fits, over chains.

Everything is written for one example, one draw, one fit; the functions here are the only place that
decides between `vmap` and a loop, how much is looked at together, and what is compiled apart. The
choices are measured by `experiments/benchmarks/copies.py` and `experiments/benchmarks/scores.py`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

PyTree = Any

SMALL = 2**16  # numbers; see `over_fits`
LAPACK = ("cholesky", "triangular_solve", "eigh", "svd", "qr", "geqrf", "lu")
IN_CACHE = (
    2**18
    # numbers looked at together: more fall out of cache between one pass and the next, fewer are
    # not
    # worth sharing between cores
)


def on_cpu() -> bool:
    """Whether programs traced now will run on the CPU backend."""
    return jax.default_backend() == "cpu"


def in_cache(numbers: int) -> int:
    """How many rows of so many numbers each stay in cache from one pass to the next."""
    return max(1, IN_CACHE // max(1, numbers))


def apart(function: Callable[[jax.Array], PyTree], x: jax.Array) -> PyTree:
    """`function(x)`, compiled by itself on CPU.

    XLA would merge the elementwise work that made x into every slice of x that is read, and a loop
    over more than a few slices is not
    vectorized: a sum over draws then takes several times as long. It does not look through a
      branch. This one is always taken, which
    no compiler knows.
    """
    if not on_cpu() or x.size == 0:
        return function(x)
    first = x[(0,) * x.ndim]
    always = (first < 1) | (first > 0) | jnp.isnan(first)
    never = lambda x: jax.tree.map(
        lambda o: jnp.full(o.shape, first, o.dtype), jax.eval_shape(function, x)
    )
    return jax.lax.cond(always, function, never, x)


def over_rows(
    function: Callable[[jax.Array], PyTree], x: jax.Array, chunk: int, axis: int = 0, width: int = 1
) -> PyTree:
    """`function(x)` for a function of rows `[n, ...] -> [n, ...]`, `chunk` rows at a time. The rows
    lie along `axis` of x, `width` entries each.

    Peak memory beyond the pool and the result is that of one chunk. The last chunk is moved back to
    end with the pool (its first rows are computed twice, with the same result), so no copy of the
    pool is ever padded. An empty pool gives empty results.
    """
    rows = x.shape[axis] // width
    if rows <= chunk:
        return function(x)
    part = lambda start: jax.lax.dynamic_slice_in_dim(x, start * width, chunk * width, axis)
    out = jax.eval_shape(lambda: function(part(0)))
    full = jax.tree.map(lambda o: jnp.zeros((rows, *o.shape[1:]), o.dtype), out)

    def one(i, full):
        start = jnp.minimum(i * chunk, rows - chunk)
        return jax.tree.map(
            lambda f, p: jax.lax.dynamic_update_slice_in_dim(f, p, start, axis=0),
            full,
            function(part(start)),
        )

    return jax.lax.fori_loop(0, -(-rows // chunk), one, full)


def over_draws(function: Callable[[PyTree], PyTree], draws: PyTree) -> PyTree:
    """`function(draw)` for every draw (leading axis of every leaf).

    A loop on CPU, where draws of a convolutional net under vmap take three to five times as long,
    and those of an MLP twice; vmap on accelerators.
    """
    return jax.lax.map(function, draws) if on_cpu() else jax.vmap(function)(draws)


def over_fits(function: Callable[..., PyTree], *args: PyTree, mesh: Mesh | None = None) -> PyTree:
    """`function(*arg)` for every fit of a population (leading axis of every leaf), in pieces on the
    devices of a mesh if there is one.

    vmap; on CPU a loop where one fit takes in more than `SMALL` numbers, or is alone. There ten
    fits of a small MLP take 1.2 to 1.6 times as long in a loop, and ten of a convolutional net or
    of a wide MLP 1.1 to 1.4 times as long under vmap: their arrays fall out of the cache. Fits that
    solve linear systems are looped too: batches of LAPACK's routines can wait for one another for
    ever (six Gaussian processes of 100 labels, jaxlib 0.10.2, two cores).
    """
    leaves = jax.tree.leaves(args)
    numbers = sum(leaf.size // leaf.shape[0] for leaf in leaves)

    def every(*part):
        looped = on_cpu() and (
            numbers > SMALL
            or leaves[0].shape[0] == 1
            or _solves(function, jax.tree.map(lambda leaf: leaf[0], part))
        )
        return (
            jax.lax.map(lambda one: function(*one), part) if looped else jax.vmap(function)(*part)
        )

    return across(every, mesh)(*args)


def _solves(function: Callable[..., PyTree], one: PyTree) -> bool:
    """Whether a function calls LAPACK."""
    program = str(jax.make_jaxpr(lambda args: function(*args))(one))
    return any(f"= {name}" in program for name in LAPACK)


def fits_together() -> int | None:
    """How many fits to run at once where they take different numbers of steps, and the longest
    holds up the others; None: all there are.

    One on CPU, where two take as long together as one after another, and eight 1.3 to 1.8 times as
    long (`experiments/benchmarks/retuning.py`).
    """
    return 1 if on_cpu() else None


def across(function: Callable[..., PyTree], mesh: Mesh | None) -> Callable[..., PyTree]:
    """`function`, with the leading axis of all it takes and gives split over a mesh: no device
    waits for another. Itself without a mesh.
    """
    if mesh is None:
        return function
    split = PartitionSpec(mesh.axis_names)
    return jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)


def over_chains(function: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`function(*arg)` for every chain of a sampler that decides as it goes (leading axis of every
    leaf).

    A loop on CPU, where vmap turns every decision into both of its branches (NUTS takes twice as
    long to compile); vmap on accelerators.
    """
    return (
        jax.lax.map(lambda each: function(*each), args) if on_cpu() else jax.vmap(function)(*args)
    )
