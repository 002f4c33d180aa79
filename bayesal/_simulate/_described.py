"""What an argument is, as text that is the same in every process: functions by name and by what
they close over, arrays by their content.
"""

import functools
import hashlib
import re
import types
from typing import Any

import jax
import numpy as np

DEEP = 12  # levels of nested functions and records that are told apart
LOOKED_AT = 1000  # rows of a large array whose content counts


def digest(value: Any) -> str:
    """A hash of what a value is.

    Functions of the same code that close over equal numbers agree, also across processes.

    >>> make = lambda scale: lambda x: scale * x
    >>> digest(make(2.0)) == digest(make(2.0)), digest(make(2.0)) == digest(make(3.0))
    (True, False)
    """
    text = "\n".join(_told(value, ()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rows_digest(x: Any) -> str:
    """A hash of an array's shape and type, and of up to 1,000 of its rows."""
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), LOOKED_AT)).astype(int))
    content = np.ascontiguousarray(np.asarray(x[some]))
    return hashlib.sha256(f"{x.shape} {x.dtype}".encode() + content.tobytes()).hexdigest()[:16]


def called(value: Any) -> str:
    """The call or function that made a value, for people.

    >>> called(None), called(called)
    ('none', 'called')
    """
    if value is None:
        return "none"
    if name := getattr(value, "name", ""):
        return str(name)
    parts = [getattr(part, "func", part) for part in (value, *_inside(value))]  # of partials
    named = [part for part in parts if hasattr(part, "__qualname__")]
    if not named:
        return type(value).__name__
    name = named[0].__qualname__.partition(".")[0]
    # a private function: the file is called as the public one
    return named[0].__module__.rpartition("._")[2] if name.startswith("_") else name


def _inside(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else ()


def _told(value: Any, path: tuple[int, ...]) -> list[str]:
    """The lines of a value that stands inside those of a path, given by their identity."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | range):
        return [f"{type(value).__name__} {value!r}"]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return [_array(value)]
    if id(value) in path:  # a function that closes over itself
        return [f"{len(path) - path.index(id(value))} levels up"]
    if len(path) > DEEP:
        return [type(value).__qualname__]
    inside = (*path, id(value))
    told = lambda part: [part] if isinstance(part, str) else _told(part[0], inside)
    return [line for part in _parts(value) for line in told(part)]


def _parts(value: Any) -> list[Any]:
    """Lines of text, and in tuples of one the values that are to be told in their place."""
    if isinstance(value, dict):
        return [x for key in value for x in (f"key {key!r}", (value[key],))]
    if isinstance(value, tuple | list):
        return [type(value).__qualname__, *((part,) for part in value)]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(digest(part) for part in value)]
    if isinstance(value, functools.partial):
        return ["partial", (value.func,), (value.args,), (value.keywords,)]
    if isinstance(value, types.MethodType):
        return ["method", (value.__func__,), (value.__self__,)]
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        name = getattr(value, "__qualname__", value.__name__)
        named: list[Any] = [f"{getattr(value, '__module__', '')}.{name}"]
        functions = vars(value).values() if isinstance(value, type) else ()
        methods = [f for f in functions if isinstance(f, types.FunctionType) and _is_own(f)]
        return named + [(function,) for function in methods]
    if (wrapped := getattr(value, "__wrapped__", None)) is not None:  # of jax.jit and its like
        return ["wrapped", (wrapped,)]
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    own = getattr(value, "__dict__", None)
    return [name, (dict(own),)] if own else [name, *_plain_repr(value)]


def _function(function: types.FunctionType) -> list[Any]:
    code = function.__code__
    if "jaxtyping" in code.co_filename and hasattr(function, "__wrapped__"):  # checks types only
        return [(function.__wrapped__,)]
    lines: list[Any] = [f"{function.__module__}.{function.__qualname__}"]
    if _is_own(function):  # lambdas of one's own share a name
        constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
        lines += [hashlib.sha256(code.co_code).hexdigest(), repr(code.co_names), repr(constants)]
    lines += [(function.__defaults__,), (function.__kwdefaults__,)]
    for cell in function.__closure__ or ():
        try:
            lines.append((cell.cell_contents,))
        except ValueError:  # not filled yet
            lines.append("empty")
    return lines


def _is_own(function: types.FunctionType) -> bool:
    """Whether the caller wrote a function: not bayesal, nor an installed package."""
    inside = (function.__module__ or "").split(".")[0] == "bayesal"
    return not inside and "site-packages" not in function.__code__.co_filename


def _plain_repr(value: Any) -> list[str]:
    return [re.sub(" at 0x[0-9a-f]+", "", repr(value))]


def _array(value: Any) -> str:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    host = np.asarray(value)
    return f"{host.shape} {host.dtype} {hashlib.sha256(host.tobytes()).hexdigest()}"
