"""The shape of the project: who may import whom, what is documented, how long a file may get, and
what the files around the package say. Read from the source; nothing is imported.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TOOLS = _PYPROJECT["project"], _PYPROJECT["tool"]

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
    {"annotators", "calibrate", "posteriors", "retune", "pools"},
    {"acquire"},
    {"_choose"},
    {"export", "loop", "_explain"},
    {"plots"},
    {"_report"},
    {"tasks", "testing", "_simulate"},
    {"campaign"},
    {"integrations", "service"},
    {"cli"},
    {"__main__"},
    {"__init__"},
)
MAY_IMPORT = {
    room: {room}.union(*LAYERS[:level]) for level, rooms in enumerate(LAYERS) for room in rooms
}

# A package's places. Models of scikit-learn, modAL and small-text are asked by their verbs;
# scikit-learn's digits are a demo of the command line.
THIRD_PARTY = {
    "flax": ("bayesal/networks/",),
    "optax": ("bayesal/_training.py",),
    "numpyro": ("bayesal/posteriors/",),
    "equinox": ("bayesal/networks/",),
    "torch": ("bayesal/predictive/",),
    "sklearn": ("bayesal/integrations/", "bayesal/cli/"),
    "skactiveml": ("bayesal/integrations/skactiveml.py",),
    "baal": ("bayesal/integrations/baal.py",),
    "argilla": ("bayesal/integrations/argilla.py",),
    "matplotlib": ("bayesal/plots/",),
    "sqlalchemy": ("bayesal/campaign/",),
    "starlette": ("bayesal/service/",),
    "uvicorn": ("bayesal/service/",),
}
LATE = (
    "matplotlib",
    "numpyro",
    "torch",
    "equinox",
    "baal",
    "argilla",
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


def test_files_of_tests_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)  # pytest imports them by name alone


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


def read_yaml(path: str):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def make_targets(text: str) -> set[str]:
    """Targets that a text calls: of `make docs ARGS=...`, docs."""
    return set(re.findall(r"\bmake (?:--[\w-]+ )*([a-z][\w-]*)", text))


def minors() -> list[str]:
    """Python versions of the classifiers, as 3.11."""
    found = [c.rpartition(" :: ")[2] for c in PROJECT["classifiers"] if ":: Python :: 3." in c]
    return sorted(found, key=lambda version: int(version.split(".")[1]))


def test_every_place_names_the_same_pythons():
    first = re.fullmatch(r">=(3\.\d+)", PROJECT["requires-python"])[1]
    low, high = (int(minors()[at].split(".")[1]) for at in (0, -1))
    assert minors() == [f"3.{minor}" for minor in range(low, high + 1)] and minors()[0] == first
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["check"]
    assert job["strategy"]["matrix"]["python"] == minors()  # strings: 3.10 is no number
    assert TOOLS["ruff"]["target-version"] == "py" + first.replace(".", "")
    assert TOOLS["mypy"]["python_version"] == first
    assert f"sys.version_info < ({first.replace('.', ', ')})" in MAKEFILE


def test_every_classifier_is_a_known_one():
    known = pytest.importorskip("trove_classifiers").classifiers
    assert set(PROJECT["classifiers"]) <= known


def test_what_is_called_through_make_is_there():
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
    defined = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.M))
    assert phony == defined
    steps = read_yaml(".github/workflows/ci.yml")["jobs"]["check"]["steps"]
    called = make_targets("\n".join(step.get("run", "") for step in steps))
    assert called == {"lint", "docs", "test", "test-browser"}
    assert called == make_targets((ROOT / ".ci/run").read_text(encoding="utf-8")) - {"test-all"}
    for page in ("README.md", "CONTRIBUTING.md", ".github/pull_request_template.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        marked = "\n".join(re.findall(r"`[^`]+`", text) + re.findall(r"^make .*$", text, re.M))
        assert make_targets(marked) <= phony, page


def test_the_workflow_caches_by_files_that_exist():
    steps = read_yaml(".github/workflows/ci.yml")["jobs"]["check"]["steps"]
    (python,) = [step["with"] for step in steps if "setup-python" in step.get("uses", "")]
    assert python["cache"] == "pip" and python["python-version"] == "${{ matrix.python }}"
    assert all((ROOT / path).is_file() for path in python["cache-dependency-path"].split())


def test_hooks_run_the_tools_of_the_environment():
    (repo,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"  # nothing is downloaded
    tools = {
        hook["id"]: re.fullmatch(r"\.venv/bin/python -m (\w+).*", hook["entry"])[1]
        for hook in repo["hooks"]
    }
    assert tools == {"ruff-check": "ruff", "ruff-format": "ruff", "mypy": "mypy"}
    assert set(tools.values()) <= required("test")
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}


def required(extra: str) -> set[str]:
    """Names of the packages of an extra."""
    listed = PROJECT["optional-dependencies"][extra]
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in listed}


def test_what_the_tests_and_docs_need_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [
        re.fullmatch(r"([\w.-]+)==[\w.]+(?:; python_version [<>=]+ \"[\d.]+\")?", line)
        for line in lines
        if not line.startswith("#")
    ]
    pinned = {pin[1].lower().replace("_", "-") for pin in pins}
    assert set().union(*map(required, ("plots", "demo", "test", "docs"))) <= pinned


def test_forms_for_issues_are_well_formed():
    folder = ".github/ISSUE_TEMPLATE"
    assert read_yaml(f"{folder}/config.yml") == {"blank_issues_enabled": True}
    for path in (f"{folder}/bug.yml", f"{folder}/question.yml"):
        form = read_yaml(path)
        assert form["name"] and form["description"] and all(map(str.strip, form["labels"]))
        ids = [part["id"] for part in form["body"]]
        assert len(set(ids)) == len(ids) >= 2
        assert any(part.get("validations", {}).get("required") for part in form["body"])
        for part in form["body"]:
            assert part["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}
            assert part["attributes"]["label"]


def test_one_version_one_license_one_name_everywhere():
    version, citation = PROJECT["version"], read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == version and citation["license"] == PROJECT["license"]
    assert [a["name"] for a in citation["authors"]] == [a["name"] for a in PROJECT["authors"]]
    assert citation["keywords"] == PROJECT["keywords"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"title = {{{citation['title']}}}" in readme
    assert f"version = {{{version}}}" in readme
    source = (ROOT / "bayesal/__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{version}"' in source
    assert (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").count(f"\n## {version} ") == 1


def test_wheel_and_sdist_would_hold_the_right_files():
    pytest.importorskip("hatchling")  # the build backend; nothing is built here
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    wheel = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "bayesal/service/static").iterdir()}
    assert wheel == {*sources("bayesal"), "bayesal/py.typed", *pages}
    sdist = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/test_project.py"} <= sdist
    assert set(sources("bayesal", "tests", "experiments")) <= sdist
    assert not [path for path in sdist if path.startswith(("experiments/results", ".venv", "runs"))]
