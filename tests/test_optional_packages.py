"""A package that is not there is named, with what pip installs in its place."""

import sys

import numpy as np
import pytest

from bayesal import _checks, integrations, networks, plots, predictive, scores


@pytest.mark.parametrize(
    ("package", "requirement", "call"),
    [
        ("matplotlib", "bayesal[plots]", lambda: plots.picked_images(np.ones((1, 2, 2)))),
        ("equinox", "equinox", lambda: networks.from_equinox(lambda key: None)),
        ("torch", "torch", lambda: predictive.from_torch([None, None])),
        ("baal", "baal", lambda: integrations.baal.heuristic(scores.bald, kind="probs")),
        ("argilla", "argilla", lambda: integrations.argilla.settings([], ["a", "b"])),
    ],
)
def test_what_is_missing_is_named(monkeypatch, package, requirement, call):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # Python's way to say that there is none
    with pytest.raises(ImportError, match=rf"{package}, .* pip install") as error:
        call()
    assert f"pip install '{requirement}'" in str(error.value) and error.value.name == package


def test_a_fault_inside_a_package_stays_as_it_is():
    with pytest.raises(ModuleNotFoundError, match="other"), _checks.installed("some", "some"):
        raise ModuleNotFoundError("No module named 'other'", name="other.part")
    with pytest.raises(ZeroDivisionError), _checks.installed("some", "some"):
        raise ZeroDivisionError
