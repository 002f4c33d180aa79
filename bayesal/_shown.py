"""How records look when they are printed: short, and never an error, under jit too."""

import difflib
import functools
import html
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

ROWS = 20  # of a table, before it is cut

P = ParamSpec("P")
Record = TypeVar("Record", bound=Any)


def named(factory: Callable[P, Record]) -> Callable[P, Record]:
    """A factory whose records have its call as their `name`, such as `power(beta=8.0)`."""

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> Record:
        return factory(*args, **kwargs)._replace(name=_call(factory, args, kwargs))

    return make


def _call(factory: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> str:
    given = [short(value) for value in args] + [f"{k}={short(v)}" for k, v in kwargs.items()]
    return f"{factory.__name__}({', '.join(given)})"


def safe(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """`__repr__` of a NamedTuple that holds numbers; anything else in it is shown field by field.

    JAX puts tracers, shapes and placeholders in the place of numbers.
    """

    @functools.wraps(show)
    def shown(record: Any) -> str:
        try:
            return show(record)
        except Exception:  # whatever the fields hold
            return fields(record)

    return shown


def fields(record: Any) -> str:
    """A NamedTuple field by field, arrays as their types; fields at their default are left out."""
    usual = record._field_defaults
    given = (
        f"{name}={short(value)}"
        for name, value in zip(record._fields, record, strict=True)
        if not (name in usual and value is usual[name])
    )
    return f"{type(record).__name__}({', '.join(given)})"


def short(value: Any) -> str:
    """A value in a few letters: numbers as they are, arrays as types, functions by name."""
    if isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        if value.shape == () and isinstance(value, jax.Array | np.ndarray) and _known(value):
            return number(value)
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if hasattr(value, "_fields"):
        return getattr(value, "name", "") or type(value).__name__
    if isinstance(value, functools.partial):
        return short(value.func)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__).replace("<lambda>", "lambda")
    if isinstance(value, list | tuple):
        inside = ", ".join(map(short, value[:5])) + (", ..." if len(value) > 5 else "")
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    said = repr(value)
    return said if len(said) <= 40 else f"{said[:37]}..."


def _known(value: Any) -> bool:
    return not isinstance(value, jax.Array) or not hasattr(value, "aval") or _read(value)


def _read(value: Any) -> bool:
    try:
        np.asarray(value)
    except Exception:  # a tracer, or a key
        return False
    return True


def number(value: Any) -> str:
    """A number with four digits, or a whole one with all of them."""
    value = np.asarray(value)
    return f"{value.item():.4g}" if value.dtype.kind in "fV" else str(value.item())


def cell(value: Any) -> str:
    """One cell of a table; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float | np.floating) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns flush right."""
    lines = [list(head), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(said.rjust(width) for said, width in zip(line, widths, strict=True))
        for line in lines
    )


def table_html(caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same table for a notebook."""
    line = lambda tag, cells: (
        "<tr>" + "".join(f"<{tag}>{html.escape(said)}</{tag}>" for said in cells) + "</tr>"
    )
    body = "".join(line("td", map(cell, row)) for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption>"
        f"<thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"
    )


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "seed"), counted(5, "seed")
    ('1 seed', '5 seeds')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def more(count: int) -> str:
    """What follows a table that was cut."""
    return f"... and {count - ROWS:,} more" if count > ROWS else ""


def maker(function: Any) -> str:
    """The function that a closure was made in: `in_memory` of `in_memory.<locals>.map`."""
    return getattr(inspect.unwrap(function), "__qualname__", "").split(".<locals>")[0]


def selection(picked: Any) -> tuple[str, list[str], list[tuple], str]:
    """A `Selection` as people look at it: caption, head, rows and foot of a table."""
    columns = {"row": picked.indices, "score": picked.scores, "joint": picked.joint}
    columns |= {"saturated": picked.saturated, "audit": picked.audit}
    kept = {name: np.asarray(column) for name, column in columns.items() if column is not None}
    rows = list(zip(*(column[:ROWS] for column in kept.values()), strict=True))
    facts = [f"Selection of {len(kept['row'])}"]
    if picked.certified is not None:
        gap = "" if picked.gap is None else f" (gap {float(picked.gap):.3g} nats)"
        facts.append("certified" if bool(picked.certified) else f"not certified{gap}")
    if picked.nonfinite is not None and int(picked.nonfinite):
        facts.append(f"{int(picked.nonfinite)} points with NaN or +inf scores")
    foot = [more(len(kept["row"])), picked.note()]
    return ", ".join(facts), list(kept), rows, "\n".join(filter(None, foot))


def note(picked: Any, used_up: float) -> str:
    """What people should know of a `Selection`; see its own `note`."""
    if picked.about is None or picked.saturated is None:
        return ""
    kept = np.asarray(picked.indices) >= 0
    late = np.asarray(picked.saturated) & kept
    if not late.any():
        return ""
    ceiling = f"{float(np.asarray(picked.ceiling)):.2f} nats"
    most = {
        "draws": f"log K = {ceiling}, the most that K draws can tell apart",
        "targets": f"{ceiling}, the most that any labels tell about the targets by these draws",
    }[picked.about]
    return (
        f"the first {int(np.argmax(late))} of {int(np.sum(kept))} picks use up "
        f"{100 * used_up:.0f} % of {most}; the picks after them are mostly noise (ordered by "
        f"remaining gain, near ties by {picked.about.fallback}). "
        "Ask for fewer points at a time, or use acquire.power."
    )


def record(made: Any) -> str:
    """A record of functions by the call that built it, or field by field."""
    kind = type(made).__name__
    return f"{kind}: {made.name}" if made.name else fields(made)


@safe
def pool(held: Any) -> str:
    """A `Pool`: how many rows, of what, and where they are."""
    rows = "an unknown number of" if held.rows is None else f"{held.rows:,}"
    where = {"file": ", read in chunks", "sharded": ", over devices"}.get(maker(held.map), "")
    what = "" if held.x is None else f" of {short(held.x)}"
    return f"Pool of {rows} rows{where}{what if held.predictive is None else ', predictions'}"


def one_of(name: str, *classes: type) -> type:
    """A class with the instances of several, for annotations: `help()` prints its name."""

    class OneOf(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, classes)

    return OneOf(name, (), {"__module__": "bayesal.types"})


def no_field(record: Any, unknown: Sequence[str]) -> str:
    """A sentence about fields that a record does not have, and those that may have been meant.

    >>> from bayesal.types import HParams
    >>> no_field(HParams, ["lr", "drop_out"])[:73]
    '`HParams` has no field lr, drop_out: did you mean learning_rate, dropout?'
    """
    meant = [near for name in unknown if (near := _nearest(name, record._fields))]
    question = f": did you mean {', '.join(meant)}?" if meant else "."
    return (
        f"`{record.__name__}` has no field {', '.join(unknown)}{question} The fields are "
        f"{', '.join(record._fields)}."
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    """The name that is meant, by its initials or by its letters; or nothing."""
    initials = [one for one in known if "".join(part[0] for part in one.split("_")) == name]
    return next(iter(initials or difflib.get_close_matches(name, known, n=1)), "")


def refusing_typos(record: Any) -> Any:
    """A NamedTuple whose constructor says which field was meant."""
    plain = record.__new__

    @functools.wraps(plain)
    def new(cls: Any, *args: Any, **given: Any) -> Any:
        if unknown := [name for name in given if name not in cls._fields]:
            raise TypeError(no_field(cls, unknown))
        return plain(cls, *args, **given)

    record.__new__ = new
    return record
