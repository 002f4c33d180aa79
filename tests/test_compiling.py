"""The first minute: `ask` is compiled beside `tell`, slow calls say what they do, and a cache."""

import logging
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import bayesal
from bayesal import _compiling, acquire, calibrate, errors, networks, posteriors, scores
from bayesal.types import HParams

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
QUICK = HParams(steps=5)


@pytest.fixture
def compiled():
    """Names of the programs that were compiled."""
    names = []

    def listen(event, seconds, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(more.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def learner(strategy, **options):
    posterior = posteriors.mc_dropout(networks.mlp(6, 3, (8,)))
    return bayesal.learner(posterior, strategy, size=3, num_draws=7, hparams=QUICK, **options)


def test_the_first_ask_is_compiled_while_the_first_fit_is(compiled):
    loop = learner(acquire.power(scores.bald))
    state = loop.tell(loop.init(jax.random.key(0), X), X, np.arange(6), np.arange(6) % 3)
    first = loop.ask(state, X)
    assert sum("choose_in" in name for name in compiled) == 1  # once in all
    compiled.clear()
    second = loop.tell(state, X, np.asarray(first.indices), np.arange(3))
    loop.ask(second, X)
    assert not [name for name in compiled if "choose_in" in name or "refit" in name]


@pytest.mark.parametrize("calibrated", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_first_fit_is_compiled_while_people_label_the_first_batch(compiled, calibrated):
    calibration = calibrate.temperature() if calibrated else None
    loop = learner(acquire.power(scores.bald), calibrate=calibration, num_folds=2)
    state = loop.init(jax.random.key(0), X)
    batch = np.asarray(loop.ask(state, X).indices)
    for thread in threading.enumerate():
        if thread.name == "bayesal-compile":
            thread.join()
    assert sum("refit" in name for name in compiled) == 1
    compiled.clear()
    loop.tell(state, X, batch, np.arange(3))
    assert not [name for name in compiled if "refit" in name]


def test_what_fails_beside_a_fit_fails_where_one_asks():
    def refuses(log_probs):
        raise ValueError("no such score")

    loop = learner(acquire.top(refuses))
    state = loop.tell(loop.init(jax.random.key(0), X), X, np.arange(6), np.arange(6) % 3)
    with pytest.raises(ValueError, match="no such score"):
        loop.ask(state, X)


def test_a_slow_call_says_what_it_does_and_a_quick_one_nothing(capfd, monkeypatch):
    monkeypatch.setattr(_compiling, "PATIENCE", 0.05)
    monkeypatch.setattr(_compiling._LOG, "propagate", False)  # as where nobody set up logging
    with _compiling.said("compiling", "fitting", "slow"):
        time.sleep(0.3)
    with _compiling.said("compiling", "fitting", "slow"):
        time.sleep(0.3)
    with _compiling.said("compiling", "fitting", "quick"):
        pass
    time.sleep(0.1)
    assert capfd.readouterr().err == "bayesal: compiling\nbayesal: fitting\n"


def test_lines_are_silenced_as_those_of_any_logger(capfd, caplog, monkeypatch):
    monkeypatch.setattr(_compiling, "PATIENCE", 0.01)
    slow = lambda: time.sleep(0.1)
    with caplog.at_level(logging.WARNING, "bayesal"), _compiling.said("a", "b", "silenced"):
        slow()
    with _compiling.silence(), _compiling.said("a", "b", "shown elsewhere"):
        slow()
    assert not caplog.records
    with caplog.at_level(logging.INFO, "bayesal"), _compiling.said("a", "b", "logged"):
        slow()
    assert [record.message for record in caplog.records] == ["a"]
    assert capfd.readouterr().err == ""


def test_what_failed_was_not_run_before(caplog, monkeypatch):
    monkeypatch.setattr(_compiling, "PATIENCE", 0.01)
    with pytest.raises(ZeroDivisionError), _compiling.said("first", "later", "fails"):
        1 / 0  # noqa: B018
    with caplog.at_level(logging.INFO, "bayesal"), _compiling.said("first", "later", "fails"):
        time.sleep(0.1)
    assert [record.message for record in caplog.records] == ["first"]


SCRIPT = """
import sys, jax, bayesal
from bayesal import scores
bayesal.cache(sys.argv[1])
jax.jit(lambda x: jax.lax.sort(scores.bald(jax.nn.log_softmax(x))))(jax.numpy.ones((9, 50, 7)))
"""


def test_programs_are_kept_for_the_next_process(tmp_path):
    folder = tmp_path / "deep" / "programs"
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=True)
    kept = sorted(path.name for path in folder.iterdir())
    assert any("lambda" in name for name in kept)
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], check=True)
    assert [
        name for name in sorted(path.name for path in folder.iterdir()) if name not in kept
    ] == []


def test_a_cache_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.BadPath, match="folder"):
        bayesal.cache(tmp_path / "file")
