"""Every Python block of the README runs, its links exist, and so does every notebook."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOOP, EMBEDDINGS, ARRAYS = re.findall(r"```python\n(.*?)```", README, re.S)


def run(code: str) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # also where a block goes elsewhere
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_readme_is_one_screen_after_another_and_no_more():
    assert len(README.encode()) <= 8_192


def test_the_loop_learns():
    check = (
        "\nprint((log_probs.argmax(-1) == test_answers).mean(), "
        "len(set(state.ledger.rows().tolist())))"
    )
    accuracy, labels = run(LOOP + check).splitlines()[-1].split()
    assert float(accuracy) > 0.8 and int(labels) == 100


def test_embeddings_learn():
    check = (
        "\nfree = np.setdiff1d(np.arange(len(vectors)), np.asarray(state.ledger.rows()))\n"
        "predictive = bayesal.predictive_of(posteriors.logistic(10), state)\n"
        "print((np.asarray(predictive.predict(vectors[free])) == labels[free]).mean(), len(free))"
    )
    accuracy, left = run(EMBEDDINGS + check).splitlines()[-1].split()
    assert float(accuracy) > 0.8 and int(left) == 1797 - 60


def test_arrays_give_rows_and_their_reasons():
    out = run(ARRAYS + "\nprint(sorted(set(np.asarray(batch.indices).tolist())))")
    picks = [int(row) for row in out.splitlines()[-1].strip("[]").split(",")]
    assert len(picks) == 10 and min(picks) >= 0 and max(picks) < 500
    assert len(out.splitlines()) > 10  # a line for each pick


@pytest.mark.slow
@pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.name) for path in sorted((ROOT / "notebooks").glob("*.py"))],
)
def test_notebooks_run(notebook):
    run("import matplotlib; matplotlib.use('Agg')\n" + notebook.read_text())
