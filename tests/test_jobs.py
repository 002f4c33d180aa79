"""The eight jobs of `experiments.jobs` at small size: each does what it is for."""

import ast
from pathlib import Path

import pytest

from experiments import jobs

FILES = sorted(path for path in Path(jobs.__path__[0]).glob("*.py") if path.stem != "__init__")


def user_lines(path):
    """Statements of the file, without imports, docstrings and the last two lines."""
    body = ast.parse(path.read_text()).body
    kept = [
        node
        for node in body
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.If)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    return sum(
        isinstance(inner, ast.stmt)
        and not (isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant))
        for node in kept
        for inner in ast.walk(node)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_job_is_few_lines(path):
    assert user_lines(path) <= 25


def run(name, **options):
    module = __import__(f"experiments.jobs.{name}", fromlist=["main"])
    return module.main(small=True, **options)


@pytest.mark.slow
def test_a_network_of_ones_own_learns():
    assert run("own_network") > 0.7


@pytest.mark.slow
def test_the_rare_class_is_found():
    assert run("imbalanced") > 0.3  # chance: .05


def test_texts_are_told_apart_by_name():
    assert run("words") > 0.6  # chance: .33


@pytest.mark.slow
def test_labels_that_tell_about_the_region_serve_it_better():
    found = run("region")
    assert found["epig"] < 0.8 * min(found["variance"], found["uniform"])


def test_a_campaign_goes_on_the_next_day():
    accuracy, answers, rejected = run("campaign")
    assert accuracy > 0.6 and answers == 35 and len(rejected) == 1


@pytest.mark.slow
def test_a_file_is_a_pool():
    assert run("memory_map") > 0.8  # chance: .2


@pytest.mark.slow
def test_seeds_run_in_one_program():
    assert min(run("one_program")) > 0.6


@pytest.mark.slow
def test_a_comparison_ends_in_a_figure(tmp_path):
    results = run("comparison", out=tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert results.curve("margin", "accuracy").shape == (2, 4)
