"""Faults at every step: no answer lost, none doubled, no pick changed."""

import pytest

from bayesal.campaign import _store
from experiments import faults


def test_faults_at_some_steps(tmp_path):
    rows = faults.enumerate_faults(tmp_path, every=29, most=13)
    assert sum(row.tried for row in rows) > 20 and sum(row.reported for row in rows) > 15
    assert [row for row in rows if row.wrong] == []


@pytest.mark.slow
def test_faults_at_every_step(tmp_path):
    rows = faults.enumerate_faults(tmp_path, every=5)
    assert sum(row.tried for row in rows) > 400
    assert [row for row in rows if row.wrong] == []


@pytest.mark.slow
def test_the_count_sees_a_store_without_transactions(tmp_path, monkeypatch):
    """The check can fail."""
    monkeypatch.setattr(_store, "_begun", lambda connection: None)
    rows = faults.enumerate_faults(tmp_path, every=7, most=12)
    assert any(row.wrong for row in rows if row.operation == "step")


def test_jumping_clocks(tmp_path):
    assert faults.jumping_clocks(tmp_path, 1).wrong == 0


@pytest.mark.slow
def test_killed_processes(tmp_path):
    assert faults.killed_for_real(tmp_path, 3).wrong == 0
