"""Types checked at run time, eight CPU devices, and strict JAX for the pure core
(`usefixtures("strict")`).

Strictness is not global: flax and optax promote ranks, and user networks may.

Every annotation in bayesal is checked on every call by jaxtyping and beartype. Edges that take
anything and answer with a sentence of their own are called through `oracles.as_users_do`, without
the annotation in front of them.
"""

import os
from pathlib import Path

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # see the Makefile; it is read when SciPy is first imported

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)

hook = install_import_hook(
    "bayesal", "beartype.beartype"
)  # stays for the whole session: modules are imported late

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("bayesal", max_examples=25, deadline=None, derandomize=True)
settings.register_profile(
    "thorough", max_examples=100, deadline=None, print_blob=True
)  # for the laws of selectors: --hypothesis-profile thorough
settings.load_profile("bayesal")


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Compiled programs are let go of after a file of tests: each takes several pieces of memory,
    and a process may have only so many.
    """
    yield
    pieces = Path("/proc/self/maps")
    if pieces.exists() and pieces.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="module")
def strict():
    """No broadcast between ranks and no implicit cast between types, in our arithmetic and in the
    test's.
    """
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
