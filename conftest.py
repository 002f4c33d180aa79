"""What every doctest may use without importing it. The settings of JAX for the tests are in
tests/conftest.py.
"""

import pytest


@pytest.fixture(autouse=True)
def _doctest_names(request: pytest.FixtureRequest, doctest_namespace: dict[str, object]) -> None:
    """Hands `jax`, `jnp`, `np` and bayesal's public names to a doctest; a name of the doctest's own
    module wins over ours.
    """
    doctest = getattr(request.node, "dtest", None)
    if doctest is None:
        return
    import jax  # here and not above: tests/conftest.py must be able to speak first
    import jax.numpy as jnp
    import numpy as np

    import bayesal

    doctest_namespace.update(jax=jax, jnp=jnp, np=np)
    for name in getattr(bayesal, "__all__", ()):
        doctest.globs.setdefault(name, getattr(bayesal, name))
