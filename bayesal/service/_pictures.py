"""Pictures of items: drawn from numbers, or files under the campaign's root."""

import struct
import zlib
from pathlib import Path

import numpy as np

from bayesal import _files, errors

LARGEST = 32 << 20  # bytes of a file
SAMPLE = 1000  # rows that the range of grays is taken from
PNG = b"\x89PNG\r\n\x1a\n"
# By their first bytes, whatever their names say. SVG is no picture here: it may hold scripts.
KINDS = {
    PNG: "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")


def drawable(shape: tuple[int, ...]) -> bool:
    """Whether an example of this shape is a picture: `[H, W]`, or `[H, W, 1 or 3]`."""
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))


def levels(pool: np.ndarray) -> tuple[float, float]:
    """The numbers that are black and white: 0 and 255 of bytes, 0 and 1 of numbers in between,
    else the least and the largest of a sample of rows.
    """
    if pool.dtype == np.uint8:
        return 0.0, 255.0
    rows = np.unique(np.linspace(0, len(pool) - 1, SAMPLE).astype(int))
    sample = np.asarray(pool[rows], np.float64)
    low, high = float(sample.min()), float(sample.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def drawn(x: np.ndarray, low: float, high: float) -> bytes:
    """An example as a PNG file, one pixel a number.

    >>> drawn(np.array([[0.0, 1.0]]), 0.0, 1.0)[:8] == PNG
    True
    """
    scaled = (np.asarray(x, np.float64) - low) / ((high - low) or 1.0)
    pixels = np.uint8(np.clip(np.nan_to_num(scaled), 0.0, 1.0) * 255 + 0.5)
    height, width, *_ = map(int, np.shape(pixels))
    color = 2 if pixels.ndim == 3 and pixels.shape[-1] == 3 else 0  # RGB, or gray
    rows = pixels.reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    body = zlib.compress(unfiltered.tobytes())
    return PNG + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read(root: Path | None, path: object) -> tuple[bytes, str] | None:
    """A picture under a root and its type; None where there is none that may be shown."""
    if root is None or not isinstance(path, str):
        return None
    try:
        folder = root.resolve()
        target = (folder / path).resolve()  # behind all links and all ".."
        if not target.is_relative_to(folder) or target.suffix.lower() not in SUFFIXES:
            return None
        with _files.opened(target) as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError, errors.BayesalError):  # missing, forbidden, or no possible name
        return None
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), None)
    return None if kind is None or len(data) > LARGEST else (data, kind)
