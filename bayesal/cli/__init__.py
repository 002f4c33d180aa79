"""The command line: `bayesal suggest`, `campaign`, `serve`, `report`.

It needs no extra of its own: argparse comes with Python. Each command imports what it needs when it
runs, so that `--help` answers at once.
"""

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from bayesal.cli import _parser, _words

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      argv: words of the command; default those of this process. Then compiled programs are kept on
        disk (`bayesal.cache`), because the next call is another process.
    Returns:
      Exit code: 0; 1 for input that bayesal refuses, a missing file or a missing package, with one
      line on stderr; 130 after Ctrl-C. Words that are no command exit with 2, as argparse does.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    options = _parser.build().parse_args(_parser.plain_tokens(words))
    if options.run is None:
        options.parser.print_help()
        return 0
    try:
        with _warnings_as_lines():
            _run(options, own_process=argv is None)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `bayesal ... | head`: whoever read has read enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        line = _words.of_error(error, options.names)
        if line is None:
            raise
        if options.traceback:
            importlib.import_module("traceback").print_exc()
        print(f"{options.parser.prog}: {line}", file=sys.stderr)
        return 1
    return 0


def __dir__() -> list[str]:
    return __all__


def _run(options: Any, *, own_process: bool) -> None:
    if own_process and options.compiles:
        from bayesal import _compiling

        with contextlib.suppress(OSError):  # a home that cannot be written to
            _compiling.cache()
    module, function = options.run
    getattr(importlib.import_module(f"bayesal.cli.{module}"), function)(options)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """A warning is a line for a person here: no file name, no line number."""

    def show(message: Any, *args: Any, **kwargs: Any) -> None:
        print(f"bayesal: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
