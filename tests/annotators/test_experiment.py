"""The experiment on a small scale."""

import json

import numpy as np
import pytest

from experiments import annotators


def test_the_people_are_as_stated():
    random = np.random.default_rng(0)
    truth = np.arange(3000) % 10
    said = annotators.answered(random, truth, 6)
    right = (said == truth[:, None]).mean(axis=0)
    np.testing.assert_allclose(right, [0.95, 0.85, 0.7, 0.6, 0.1, 0.9 * 0.7], atol=0.03)
    assert (said[truth == 4, 5] == 9).all() and (said[truth == 3, 5] == 5).all()
    assert ((annotators.answered(random, truth, 2) >= 0).sum(axis=1) == 2).all()


@pytest.mark.slow
def test_the_experiment_leaves_records_and_a_picture(tmp_path):
    config = annotators.Config(seeds=1, items=300, draws=10, more=90)
    records = annotators.main(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["kind"] == "truth"] == records[: 4 * 8]
    assert (tmp_path / "annotators.png").stat().st_size > 10_000
    best = lambda way, count: annotators.mean(records[: 4 * 8], way, count).mean()
    assert best("ours, refitted", 2) > max(best("CrowdLab", 2), best("majority", 2) + 0.2, 0.9)
    assert {line["kind"] for line in lines} == {"config", "truth", "gap", "overlap", "asking"}
