"""Every Python block of the README runs, and so does every notebook."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def run(code: str) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # also where a block goes elsewhere
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_loop_of_the_readme_learns():
    check = (
        "\nprint((log_probs.argmax(-1) == test_answers).mean(), "
        "len(set(state.ledger.rows().tolist())))"
    )
    accuracy, labels = run(BLOCKS[0] + check).splitlines()[-1].split()
    assert float(accuracy) > 0.8 and int(labels) == 100


@pytest.mark.slow
def test_the_search_is_what_one_says():
    setup = BLOCKS[0].split("learner = bayesal.learner(")[0]
    first = (
        "\nstate = learner.tell(learner.init(0, pool), pool, np.arange(20), "
        "answers[:20])\ntried = retune.table(state.search)\n"
    )
    out = run(
        setup
        + BLOCKS[1]
        + first
        + (
            "print(len(tried['round']), tried['steps'].min() >= 50, tried['steps'].max() <= 800, "
            "set(tried['prior_scale'].tolist()))"
        )
    )
    assert out.splitlines()[-1] == "14 True True {1.0}"


def test_the_backend_block_gives_rows_of_the_pool():
    out = run(
        "import os, tempfile; os.chdir(tempfile.mkdtemp())\n"
        + BLOCKS[2]
        + "\nprint(sorted(set(np.asarray(batch.indices).tolist())), open('ranking.csv').readline())"
    )
    rows, header = out.strip().splitlines()[-1].rsplit("]", 1)
    picks = [int(row) for row in rows.strip("[").split(",")]
    assert len(picks) == 10 and min(picks) >= 100 and header.startswith(" id,rank,score")


def test_a_network_of_ones_own():
    out = run(
        BLOCKS[3] + "\nx = jax.numpy.ones((8, 8, 1)); p = network.init(jax.random.key(0), x)\n"
        "a, b = network.apply(p, x, jax.random.key(1), 0.), network.apply(p, x, None, "
        "0.)\nprint(a.shape, bool((a != b).any()))\n"
        "x = jax.numpy.ones(64); p = searched.init(jax.random.key(0), x)\n"
        "a, b = searched.apply(p, x, jax.random.key(1), 0.5), searched.apply(p, x, "
        "jax.random.key(1), 0.1)\nprint(a.shape, bool((a != b).any()))"
    )
    assert out.split("\n")[:2] == ["(10,) True", "(10,) True"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.name) for path in sorted((ROOT / "notebooks").glob("*.py"))],
)
def test_notebooks_run(notebook):
    run("import matplotlib; matplotlib.use('Agg')\n" + notebook.read_text())
