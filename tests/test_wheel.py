"""The wheel and the sdist: what they hold, and that each runs the loop in an empty environment."""

import importlib.util
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent

LOOP = """
import numpy as np
import bayesal
from bayesal import acquire, posteriors

x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
y = (x[:, 0] > 0).astype(int)
learner = bayesal.learner(posteriors.logistic(classes=2), acquire.power(), size=5, capacity=20)
state = learner.init(0, x)
for _ in range(2):
    batch = learner.ask(state, x)
    state = learner.tell(state, x, batch.indices, y[batch.indices])
print(bayesal.__file__)
print(bayesal.__version__)
print(int(state.ledger.count))
"""


def said(*command, cwd: Path, env: dict[str, str]) -> str:
    """What a command prints."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def clean() -> dict[str, str]:
    """This environment's variables, less those that lead Python to the checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """`python -m build`: the sdist of the checkout, and the wheel of that sdist."""
    out = tmp_path_factory.mktemp("dist")
    # Without isolation the backend is the one of this environment: nothing is downloaded.
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out]
    said(*build, ROOT, cwd=out, env=dict(os.environ))
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_the_wheel_holds_the_package_and_no_more(built):
    with zipfile.ZipFile(built["wheel"]) as file:
        names = set(file.namelist())
        (metadata,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        text = file.read(metadata).decode()
    package = {n for n in names if ".dist-info/" not in n}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "bayesal").rglob("*.py")}
    pages = {
        f"bayesal/service/static/{p.name}" for p in (ROOT / "bayesal/service/static").iterdir()
    }
    assert package == {*sources, "bayesal/py.typed", *pages}
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)
    assert "Requires-Python: >=3.11\n" in text and "License-Expression: MIT\n" in text
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in text
    assert built["wheel"].stat().st_size < 1_000_000


def test_the_sdist_is_small_and_can_be_tested(built):
    with tarfile.open(built["sdist"]) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "Makefile", "constraints.txt"} <= names
    assert {"tests/test_wheel.py", "tests/conftest.py", "docs/conf.py", "bayesal/py.typed"} <= names
    assert not [name for name in names if name.startswith(("experiments/results", ".venv"))]
    assert built["sdist"].stat().st_size < 2_000_000


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_and_runs_the_loop_in_an_empty_environment(built, kind, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    there = Path(said(python, "-c", code, cwd=tmp_path, env=clean()).strip())
    # bayesal's requirements are a gigabyte, so they come by a link to the packages of this
    # environment and nothing is downloaded. The link brings no bayesal: what an editable install
    # has there is itself a .pth file, and Python reads such files only in its own site-packages.
    link = "\n".join(sorted({home_of("jax"), home_of("hatchling")}))
    (there / "requirements.pth").write_text(link)
    no_bayesal = "import importlib.util as u; print(u.find_spec('bayesal'))"
    assert said(python, "-c", no_bayesal, cwd=tmp_path, env=clean()).strip() == "None"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    said(*install, *offline, built[kind], cwd=tmp_path, env=clean())
    where, version, count = said(python, "-c", LOOP, cwd=tmp_path, env=clean()).split()
    assert Path(where).is_relative_to(there) and (Path(where).parent / "py.typed").exists()
    assert version in built[kind].name and count == "10"


def home_of(package: str) -> str:
    """The folder that a package of this environment lies in."""
    return str(Path(importlib.util.find_spec(package).origin).parents[1])
