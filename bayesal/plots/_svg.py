"""Pictures as SVG text for a page: letters stay letters, and colors follow the reader's scheme."""

import io
import re
from collections.abc import Callable
from typing import Any

from bayesal import _checks
from bayesal.plots import _style

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text, not outlines: small and sharp
    "svg.hashsalt": "bayesal",  # the same picture gives the same file
    "text.parse_math": False,  # a name may hold dollars
    "font.family": "sans-serif",
    "text.color": _style.INK,
    "axes.labelcolor": _style.INK,
}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
MARGIN, LETTER = 0.25, 0.088  # inches beside the axes: of lines to names, of a bold letter
WHITE = "#FFFFFF"
DARK = {  # what a color becomes on a dark page
    WHITE: "#1B1E24",
    _style.INK: "#D5D8DE",
    _style.BLACK: "#F0F0F0",
    _style.GRAY: "#9AA0A8",
    _style.FAINT: "#4A4F58",
    _style.BLUE: "#4FA8DE",
    _style.VERMILION: "#F0803C",
    _style.GREEN: "#2FBF97",
}


def drawn(draw: Callable[[Any], Any], size: tuple[float, float], letters: int) -> str:
    """The SVG of `draw(ax)`, in axes of a new figure of that size in inches; dark on dark pages.

    The figure is none of pyplot's: nothing appears in a window or a notebook. Margins are fixed, so
    that what `draw` measures stays true.

    Args:
      letters: of the longest name on the right.
    """
    with _checks.installed("matplotlib", "bayesal[plots]"):
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    with matplotlib.rc_context(SETTINGS):
        width, height = size
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)  # names are placed by what it measures
        right = 1 - (MARGIN + LETTER * letters) / width
        figure.subplots_adjust(0.72 / width, 0.5 / height, right, 1 - 0.12 / height)
        draw(figure.add_subplot())
        return _both_schemes(_text(figure))


def saved(picture: Any) -> tuple[str, bytes]:
    """Media type and content of a figure, or of the figure that holds an axes, on white.

    SVG, or PNG where that is smaller, as for many points and large images.
    """
    with _checks.installed("matplotlib", "bayesal[plots]"):
        import matplotlib
    figure = picture.get_figure() if hasattr(picture, "transData") else picture
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bayesal"}):
        text = _text(figure, facecolor="white", bbox_inches="tight").encode()
        if len(text) < 60_000:
            return "image/svg+xml", text
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=130, facecolor="white", bbox_inches="tight")
    if len(text) <= len(file.getvalue()):
        return "image/svg+xml", text
    return "image/png", file.getvalue()


def _text(figure: Any, **more: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=NO_METADATA, **more)
    return file.getvalue()[file.getvalue().index("<svg") :]  # without the document type


def _both_schemes(text: str) -> str:
    """Fixed colors as variables, which a dark scheme sets anew."""
    name = lambda color: f"--c{color[1:].lower()}"
    for color in DARK:
        text = re.sub(re.escape(color), f"var({name(color)})", text, flags=re.IGNORECASE)
    light = ";".join(f"{name(color)}:{color}" for color in DARK)
    dark = ";".join(f"{name(color)}:{other}" for color, other in DARK.items())
    scheme = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    end = text.index(">") + 1
    return f"{text[:end]}<style>{scheme}</style>{text[end:]}"
