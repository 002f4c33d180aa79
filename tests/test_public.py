"""The public names: one list, `docs/api.md`, held against what Tab, `help()` and the docs show.

`python tests/test_public.py > docs/api.md` writes the list anew.
"""

import importlib
import inspect
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Float

import bayesal
from bayesal import types as types_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
MOST = 279  # names that are no modules; before the house was rebuilt there were 314

CONSTANTS = {
    id(
        bayesal.REJECTED
    ): "The class label -1, none of my classes: never fitted, never asked again.",
    id(
        bayesal.annotators.ABSTAIN
    ): "The answer -2, cannot tell: evidence of what is difficult, and no vote.",
}


def modules() -> dict[str, types.ModuleType]:
    """Every public module by its public name: what `bayesal` lists, and what those list in turn."""
    found = {"bayesal": bayesal}
    todo = ["bayesal"]
    while todo:
        name = todo.pop(0)
        for attribute in found[name].__all__:
            value = getattr(found[name], attribute)
            if isinstance(value, types.ModuleType):
                found[f"{name}.{attribute}"] = value
                todo.append(f"{name}.{attribute}")
    return found


def names() -> dict[str, object]:
    """Every public name that is no module, by the first module that lists it."""
    found, seen = {}, set()
    for module_name, module in modules().items():
        for attribute in module.__all__:
            value = getattr(module, attribute)
            if not isinstance(value, types.ModuleType) and id(value) not in seen:
                seen.add(id(value))
                found[f"{module_name}.{attribute}"] = value
    return found


def summary(value: object) -> str:
    """The first paragraph of a docstring, as one line."""
    if id(value) in CONSTANTS:
        return CONSTANTS[id(value)]
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def page() -> str:
    lines = [
        "# Public names",
        "",
        "Everything that `bayesal` promises, with the first lines of its docstring. What is not",
        "here may change without notice. `help` shows the whole docstring:",
        "",
        "```python",
        "from bayesal import scores",
        "",
        "help(scores.bald)  # shapes, units, bounds, the paper and an example",
        "```",
    ]
    listed = names()
    for module_name, module in modules().items():
        own = {
            name: value for name, value in listed.items() if name.rpartition(".")[0] == module_name
        }
        lines += ["", f"## {module_name}", "", summary(module)]
        if own:
            lines += ["", "| name | what it is |", "|---|---|"]
        for name, value in sorted(own.items()):
            said = summary(value).replace("|", "\\|")
            lines.append(f"| `{name.rpartition('.')[2]}` | {said} |")
    return "\n".join(lines) + "\n"


def test_the_page_lists_every_public_name():
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "docs/api.md is not what the docstrings say: python tests/test_public.py > docs/api.md"
    )


def test_there_are_few_of_them():
    assert len(names()) <= MOST


@pytest.mark.parametrize("name", names())
def test_a_public_name_has_a_docstring(name):
    value = names()[name]
    if isinstance(value, int | float | str):  # a constant, documented where it stands
        return
    assert summary(value) and not summary(value).startswith(f"{name.rpartition('.')[2]}(")


@pytest.mark.parametrize("name", modules())
def test_tab_shows_the_public_names_and_no_others(name):
    module = modules()[name]
    shown = [attribute for attribute in dir(module) if not attribute.startswith("_")]
    assert sorted(shown) == sorted(set(module.__all__))


def test_defaults_and_annotations_can_be_read():
    """What `help()` prints is short: names of types, not their parts, and no addresses."""
    for name, value in names().items():
        if not callable(value) or isinstance(value, type):
            continue
        signature = str(inspect.signature(value))
        for part in (" at 0x", "jaxlib._jax.Array", "Union["):
            assert part not in signature, (name, signature)
        assert len(signature) < 650, (name, len(signature))


def test_a_name_of_several_types_takes_each_of_them():
    array, key = types_of.Array, types_of.Key
    either, prediction = types_of.ArrayLike, types_of.Prediction
    seen = []
    jax.jit(lambda x: seen.append([isinstance(x, kind) for kind in (array, either)]))(jnp.ones(2))
    assert seen == [[True, True]]  # a tracer is an array
    assert isinstance(np.ones(2), either) and not isinstance(np.ones(2), array)
    assert isinstance(np.ones(2), Float[either, " n"]) and not isinstance([1.0], either)
    assert isinstance(jax.random.key(0), key) and isinstance(jax.random.PRNGKey(0), key)
    assert not isinstance(jnp.ones(2), key) and not isinstance(0, key)
    assert isinstance(bayesal.Gaussian(jnp.ones(1), jnp.ones(1)), prediction)
    assert not isinstance(0.5, prediction)


def test_no_module_hides_behind_a_function_of_its_name():
    """`bayesal.x` is either a module or a function, whatever was imported before."""
    for name, module in modules().items():
        for attribute in module.__all__:
            if isinstance(getattr(module, attribute), types.ModuleType):
                continue
            spec = None
            if hasattr(module, "__path__"):
                spec = importlib.util.find_spec(f"{module.__name__}.{attribute}")
            assert spec is None, f"{name}.{attribute} is a function and a module"


if __name__ == "__main__":
    print(page(), end="")
