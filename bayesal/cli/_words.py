"""Sentences of the library in the words of a command line: options in place of arguments."""

import re
from collections.abc import Mapping


def of_error(error: Exception, names: Mapping[str, str]) -> str | None:
    """One line about an error that a person can act on; None for any other, which is a bug.

    Args:
      names: the option of each argument, such as `{"key": "--seed"}`.

    >>> from bayesal import errors
    >>> of_error(errors.WrongSize("size", "`size` is 9; pass size=3."), {"size": "--size"})
    '`--size` is 9; pass --size 3.'
    >>> of_error(errors.BadStore("store", "no campaign."), {"store": "STORE"})
    'STORE: no campaign.'
    """
    from bayesal import errors

    if isinstance(error, errors.BayesalError):
        text = " ".join(str(error).split())
        for argument, option in names.items():
            text = _renamed(text, argument, option)
        option = names.get(error.argument, "")
        return text if option in text else f"{option}: {text}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}"
    return str(error) if isinstance(error, ImportError) else None


def _renamed(text: str, argument: str, option: str) -> str:
    """`argument` and argument=value, as the option is written."""
    text = text.replace(f"`{argument}`", f"`{option}`").replace(f"`{argument}=`", f"`{option}`")
    start = rf"(?<![\w.`'-]){re.escape(argument)}="
    text = re.sub(rf"{start}True\b", option, text)
    return re.sub(
        rf"{start}(?=[\w'\"(\[-])", f"{option} ", re.sub(rf"{start}(?=\W?\s)", option, text)
    )
