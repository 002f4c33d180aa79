"""A folder of images as a pool: small arrays of pixels, and paths to show."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayesal import _checks, errors

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")  # what a browser shows
GRAY = ("1", "L", "LA")  # Pillow's modes without color
EVERY = 2.0  # seconds between lines of progress


def read(folder: str, size: int) -> tuple[np.ndarray, list[str]]:
    """All images below a folder, in the order of their paths.

    Returns:
      Pixels `[N, size, size, 1]` if all are gray, else `[N, size, size, 3]`, in [0, 1]; and paths
      relative to the folder. Width and height are scaled alone, so that nothing is cut off.
    Raises:
      BadPath: no such folder, or no image in it. BadPool: a file that cannot be decoded.
    """
    with _checks.installed("PIL", "pillow"):
        from PIL import Image, ImageOps

    root = Path(folder)
    if not root.is_dir():
        raise errors.BadPath("images", f"`images` ({folder}) is no folder.")
    paths = _paths(root)
    if not paths:
        raise errors.BadPath("images", f"`images` ({folder}) holds no {', '.join(ENDINGS)}.")
    pixels, gray, said = np.zeros((len(paths), size, size, 3), np.uint8), True, time.monotonic()
    for row, path in enumerate(paths):
        try:
            with Image.open(root / path) as image:
                gray = gray and image.mode in GRAY
                upright = ImageOps.exif_transpose(image).convert("RGB")
                pixels[row] = np.asarray(upright.resize((size, size)))
        except Exception as error:  # decoders raise errors of many kinds
            raise errors.BadPool(
                "images", f"`images`: {root / path} cannot be decoded: {error}."
            ) from error
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            print(f"bayesal: {row + 1} of {len(paths)} images read", file=sys.stderr)
    print(
        f"bayesal: {len(paths)} images as {size} x {size} pixels. Embeddings of a frozen model "
        "need fewer labels: pass them as --pool.",
        file=sys.stderr,
    )
    return (pixels[..., :1] if gray else pixels).astype(np.float32) / 255, paths


def named_by(ids: Sequence[str] | None, folder: str) -> list[Any]:
    """What is shown where rows came with ids that are paths of images under a folder.

    Raises:
      BadPath: an id that is no file there, or none were given.
    """
    if ids is None:
        raise errors.BadPath(
            "images",
            "`images` with `pool` needs to know which image is which row: pass `ids`, a path under "
            "the folder for each row, or `show`.",
        )
    for number, path in enumerate(ids, 1):
        if not (Path(folder) / path).is_file():
            raise errors.BadPath("ids", f"`ids`, line {number}: there is no {path} in {folder}.")
    return [{"image": path} for path in ids]


def _paths(root: Path) -> list[str]:
    """Images below a folder, relative to it; names that begin with a dot are left out."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in found
        if path.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in path.parts)
    )
