"""API pages from docstrings: one page of MyST Markdown a room, written before every build.

Docstrings here are plain text with Google's sections. They are not reStructuredText: `p_k || q` and
`K *B C` would be markup there. So text is escaped, and sections, fields and examples are set as
lists and code.
"""

import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

SECTIONS = ("Args", "Returns", "Raises", "Warns", "References")
FIELD = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): +(.*)")


def write(folder: Path, rooms: dict[str, types.ModuleType], named: dict[str, object]) -> None:
    """A page for each room that has names of its own; what was there before is removed."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for room, module in rooms.items():
        own = [name for name in named if name.rpartition(".")[0] == room]
        if own:
            entries = "\n\n".join(entry(name, named[name]) for name in sorted(own))
            text = f"# {room}\n\n{body(inspect.getdoc(module) or '')}\n\n{entries}\n"
            (folder / f"{room}.md").write_text(text, encoding="utf-8")


def entry(name: str, value: object) -> str:
    """One name as a directive of Sphinx' Python domain, which the index and search know."""
    if not callable(value):
        return directive("data", name, "", 3)
    parts = [body(inspect.getdoc(value) or "")]
    if isinstance(value, type):
        parts += [
            directive(
                "method", f"{name}.{method}{signature(function, bound=own is function)}", doc, 3
            )
            for method, own in vars(value).items()
            if not method.startswith("_")
            and inspect.isfunction(function := getattr(own, "__func__", own))  # of static ones
            and (doc := body(inspect.getdoc(function) or ""))
        ]
    kind = "class" if isinstance(value, type) else "function"
    return directive(kind, name + signature(value), "\n\n".join(parts), 4)


def directive(kind: str, head: str, content: str, colons: int) -> str:
    fence = ":" * colons
    return f"{fence}{{py:{kind}}} {head}\n\n{content}\n{fence}"


def signature(value: object, bound: bool = False) -> str:
    """What `help()` prints, with types by their own names: `Array` for `jax.Array`."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "()"
    if isinstance(value, type):
        if issubclass(value, Exception):
            return ""
        found = found.replace(return_annotation=inspect.Signature.empty)
    if bound:
        found = found.replace(parameters=list(found.parameters.values())[1:])
    text = re.sub(r"\b(?:\w+\.)+([A-Z]\w*)", r"\1", str(found))
    text = re.sub(r"<(?:function|class) (?:\w+\.)*'?([\w.]+)[^>]*>", r"\1", text)
    return text.replace("\n", " ")


def body(doc: str) -> str:
    """A docstring as Markdown."""
    return "\n\n".join(block for part in parts(doc) if (block := markdown(*part)))


def parts(doc: str) -> Iterator[tuple[str, list[str]]]:
    """Its sections in order: the title ("" for text) and the lines, without indent."""
    title, lines = "", []
    for line in doc.splitlines():
        if (head := line.rstrip(":")) in SECTIONS and line.endswith(":"):
            yield title, lines
            title, lines = head, []
        elif title and line and not line.startswith(" "):
            yield title, lines
            title, lines = "", [line]
        else:
            lines.append(line)
    yield title, lines


def markdown(title: str, lines: list[str]) -> str:
    text = textwrap.dedent("\n".join(lines)).strip("\n")
    if not text:
        return ""
    if title in ("Raises", "Warns"):  # "NonFinite: NaN. WrongShape: another rank": one a line
        text = re.sub(r"(?<=[.;])\s+(?=[A-Z]\w+(?:, [A-Z]\w+)*: )", "\n", " ".join(text.split()))
    pieces = re.split(r"\n{2,}", text)
    blocks = "\n\n".join(block(piece, fields=bool(title or at)) for at, piece in enumerate(pieces))
    return f"**{title}**\n\n{blocks}" if title else blocks


def block(text: str, fields: bool) -> str:
    """An example, a list of fields (never the first sentence), code, or a paragraph."""
    lines = text.splitlines()
    if lines[0].startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if fields and all(FIELD.match(x) or (at and x[0] == " ") for at, x in enumerate(lines)):
        items: list[str] = []
        for line in lines:
            if line.startswith(" "):
                items[-1] += " " + line.strip()
            else:
                items.append(line)
        return "\n".join(field(item) for item in items)
    if any(re.match(r"\w[\w., ]* = \w", line) for line in lines) and len(lines) > 1:
        return f"```python\n{text}\n```"
    return escaped(text)


def field(item: str) -> str:
    name, said = FIELD.match(item).groups()
    return f"- `{name}`: {escaped(said)}"


def escaped(text: str) -> str:
    """Prose whose brackets, bars and stars are meant; what stands in backticks is left alone."""
    pieces = re.split(r"(`[^`]*`|https?://[^\s,;)]+)", text)
    pieces[::2] = [re.sub(r"([\[\]*|<>$#~{}\\])", r"\\\1", piece) for piece in pieces[::2]]
    pieces[1::2] = [
        p if p.startswith("`") else re.sub(r"^(.*?)(\.?)$", r"<\1>\2", p) for p in pieces[1::2]
    ]
    return "".join(pieces)
