"""Elements of a page. Text is escaped here and nowhere else, so that no name can become markup."""

import base64
import html
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

WITHOUT_END = ("img", "meta", "source")


class Markup(NamedTuple):
    """Text that is markup already."""

    text: str


Child = Markup | str


def element(tag: str, *children: Child, **attributes: Any) -> Markup:
    """One element. Strings inside it and in its attributes are escaped.

    Args:
      attributes: a trailing `_` is dropped, other `_` are hyphens; None is left out.

    >>> element("p", "a < b", class_="note").text
    '<p class="note">a &lt; b</p>'
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    end = "" if tag in WITHOUT_END else f"</{tag}>"
    return Markup(f"<{tag}{given}>{joined(*children).text}{end}")


def joined(*children: Child) -> Markup:
    """Several elements and strings, one after the other."""
    return Markup(
        "".join(
            child.text if isinstance(child, Markup) else html.escape(child) for child in children
        )
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Child]],
    words: Sequence[int] = (0,),
) -> Markup:
    """A table that scrolls sideways where it is too wide. The first cell of a row is its header.

    Args:
      words: columns of text; the others hold numbers and are aligned on the right.
    """
    side = lambda column: None if column in words else "number"
    heads = [element("th", h, scope="col", class_=side(i)) for i, h in enumerate(head)]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", class_=side(0)),
            *(element("td", cell, class_=side(i)) for i, cell in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", element("span", caption)),  # stays while the table scrolls
        element("thead", element("tr", *heads)),
        element("tbody", *body),
    )
    # reached by the keyboard, so that it can be scrolled
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def data(media: str, content: bytes) -> str:
    """Content as an address, so that the page needs no other file."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def png(image: UInt8[np.ndarray, "h w *c"]) -> bytes:
    """An image of bytes, gray `[h, w]` or in color `[h, w, 3]`, as a PNG file."""
    height, width = image.shape[:2]
    lines = image.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1).tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    color = 0 if image.ndim == 2 else 2
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(raw, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
