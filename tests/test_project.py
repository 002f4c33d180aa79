"""The shape of the project: who may import whom, what is documented, how long a file may get. Read
from the source; nothing is imported.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each room may import the rooms of every line above its own, and itself. A new room gets its place
# here.
LAYERS = (
    {"_shown", "_warnings"},
    {"types", "errors"},
    {"_chunks", "_compiling", "_files"},
    {"_maths", "_random"},
    {"_checks"},
    {"likelihoods"},
    {"scores", "metrics", "_training", "networks", "predictive"},
    {"select"},
    {"calibrate", "posteriors", "retune", "pools", "annotators"},
    {"acquire"},
    {"_choose"},
    {"export", "loop", "_explain"},
    {"plots"},
    {"tasks", "testing", "_simulate"},
    {"campaign"},
    {"service"},
    {"cli"},
    {"__main__"},
    {"__init__"},
)
MAY_IMPORT = {
    room: {room}.union(*LAYERS[:level]) for level, rooms in enumerate(LAYERS) for room in rooms
}

# A package's places. scikit-learn's models are asked by their verbs; its digits are a demo.
THIRD_PARTY = {
    "flax": ("bayesal/networks/",),
    "optax": ("bayesal/_training.py",),
    "numpyro": ("bayesal/posteriors/",),
    "equinox": ("bayesal/networks/",),
    "torch": ("bayesal/predictive/",),
    "sklearn": ("bayesal/cli/",),
    "matplotlib": ("bayesal/plots/",),
    "sqlalchemy": ("bayesal/campaign/",),
}
LATE = (
    "matplotlib",
    "numpyro",
    "torch",
    "equinox",
)  # optional, or slow to come: imported inside functions
NEVER = ("jax._src", "jax.core", "jax.interpreters", "pickle")
MAX_FILE, MAX_FUNCTION = 400, 50  # lines; a function's docstring is not counted

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(*folders: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")
    )


def parsed(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a tree imports: `from a import b` gives `a.b`, a
    relative import keeps its dots.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                (node.lineno, "." * node.level + f"{node.module or ''}.{alias.name}")
                for alias in node.names
            )


def used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Imports, and attributes reached from a name as `jax.core` is after `import jax`."""
    yield from imported(tree)
    yield from (
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    )


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def room_of(path: str) -> str:
    return path.removeprefix("bayesal/").split("/")[0].removesuffix(".py")


def layer_faults(path: str, source: str) -> set[str]:
    """What a file's text in `bayesal/` imports against the tables above, one sentence each."""
    tree, room = ast.parse(source), room_of(path)
    if room not in MAY_IMPORT:
        return {f"{path}: `{room}` has no place in LAYERS of tests/test_project.py"}
    faults = {
        f"{path}:{line}: `{name}` is never to be used"
        for line, name in used(tree)
        if any(under(name, bad) for bad in NEVER)
    }
    for line, name in imported(tree):
        parts = name.split(".")
        if name.startswith("."):
            faults.add(f"{path}:{line}: relative import `{name}`: write it out from `bayesal`")
        elif parts[0] == "bayesal" and (len(parts) == 1 or parts[1] not in MAY_IMPORT[room]):
            faults.add(f"{path}:{line}: `{room}` may not import `{name}`")
        elif not path.startswith(THIRD_PARTY.get(parts[0], "")):
            faults.add(
                f"{path}:{line}: `{parts[0]}` may be imported only in "
                f"{', '.join(THIRD_PARTY[parts[0]]) or 'no file'}"
            )
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, FUNCTION)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in inside:
            faults |= {
                f"{path}:{line}: import {late} inside a function"
                for line, name in imported(node)
                for late in LATE
                if under(name, late)
            }
    return faults


def private_faults(path: str, source: str) -> set[str]:
    """What a file of `experiments/` or `notebooks/` takes from bayesal that is not public, or from
    JAX's inside. Benchmarks measure parts, and `proposers.py` puts other libraries' proposers in
    the place of ours: they may import private parts of bayesal.
    """
    tree = ast.parse(source)
    private = {
        (line, name)
        for line, name in imported(tree)
        if under(name, "bayesal") and any(p.startswith("_") for p in name.split("."))
    }
    if path.startswith("experiments/benchmarks/") or path == "experiments/proposers.py":
        private = set()
    private |= {(line, name) for line, name in used(tree) if any(under(name, bad) for bad in NEVER)}
    return {f"{path}:{line}: `{name}` is not public" for line, name in private}


def undocumented(path: str) -> Iterator[str]:
    for node in parsed(path).body:
        if (
            isinstance(node, (*FUNCTION, ast.ClassDef))
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            yield f"{path}:{node.lineno}: {node.name}"


def too_long(path: str) -> Iterator[str]:
    if (lines := len((ROOT / path).read_text(encoding="utf-8").splitlines())) > MAX_FILE:
        yield f"{path}: {lines} lines"
    for node in ast.walk(parsed(path)):
        if isinstance(node, FUNCTION):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            if (lines := node.end_lineno - node.lineno + 1 - docstring) > MAX_FUNCTION:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", sources("bayesal"))
def test_imports_follow_the_layers(path):
    assert not layer_faults(path, (ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bayesal/scores.py", "from bayesal.loop._learner import learner"),
        ("bayesal/scores.py", "from bayesal import _maths, loop"),
        ("bayesal/scores.py", "import bayesal.acquire"),
        ("bayesal/scores.py", "import bayesal"),
        ("bayesal/scores.py", "from bayesal import posteriors"),
        ("bayesal/scores.py", "def late():\n    from bayesal import loop"),
        ("bayesal/scores.py", "from . import loop"),
        ("bayesal/scores.py", "from flax import nnx"),
        ("bayesal/scores.py", "import optax"),
        ("bayesal/posteriors/_ensemble.py", "import optax"),
        ("bayesal/scores.py", "import jax._src.core"),
        ("bayesal/scores.py", "from jax import core"),
        ("bayesal/scores.py", "import jax\njax.core.Tracer"),
        ("bayesal/scores.py", "from jax.interpreters import ad"),
        ("bayesal/loop/checkpoint.py", "import pickle"),
        ("bayesal/plots/_style.py", "import matplotlib.pyplot as plt"),
        ("bayesal/metrics.py", "def plot():\n    import matplotlib.pyplot as plt"),
        ("bayesal/posteriors/_svi.py", "from numpyro.infer import SVI"),
        ("bayesal/predictive/_torch_modules.py", "import torch"),
        ("bayesal/scores.py", "def late():\n    import torch"),
        (
            "bayesal/predictive/_committee.py",
            "def late():\n    from sklearn.ensemble import RandomForestClassifier",
        ),
        ("bayesal/networks/_equinox_modules.py", "import equinox as eqx"),
        ("bayesal/nowhere.py", ""),
    ],
)
def test_the_layer_test_bites(path, source):
    assert len(layer_faults(path, source)) >= 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "bayesal/scores.py",
            "import jax.numpy as jnp\nfrom bayesal import _checks, _maths\nfrom bayesal.types "
            "import Key",
        ),
        (
            "bayesal/networks/_reference.py",
            "from flax import nnx\nfrom bayesal.networks._adapters import from_nnx",
        ),
        ("bayesal/_training.py", "import optax"),
        ("bayesal/predictive/_torch_modules.py", "def late():\n    import torch"),
        ("bayesal/networks/_equinox_modules.py", "def late():\n    import equinox as eqx"),
        ("bayesal/plots/_style.py", "def plot():\n    import matplotlib.pyplot as plt"),
        ("bayesal/loop/checkpoint.py", "np.load(path, allow_pickle=False)"),
    ],
)
def test_the_layer_test_lets_the_allowed_pass(path, source):
    assert not layer_faults(path, source)


def test_experiments_and_notebooks_use_public_names_only():
    paths = sources("experiments", "notebooks")
    faults = {
        fault
        for path in paths
        for fault in private_faults(path, (ROOT / path).read_text(encoding="utf-8"))
    }
    assert not faults
    assert private_faults("x.py", "from bayesal.scores import _hidden") and private_faults(
        "x.py", "import bayesal._inside"
    )
    assert not private_faults(
        "x.py", "import bayesal\nfrom bayesal import scores\nfrom bayesal.select import top"
    )
    benchmark, other = "experiments/benchmarks/x.py", "experiments/x.py"
    assert not private_faults(benchmark, "from bayesal import _chunks")
    assert private_faults(other, "from bayesal import _chunks")
    assert private_faults(benchmark, "from jax._src import core")


def test_public_means_documented():
    assert not [name for path in sources("bayesal") for name in undocumented(path)]


def test_files_and_functions_stay_short():
    assert not [name for path in sources("bayesal") for name in too_long(path)]
