"""The first batches of each strategy: thumbnails where rows are images, else rows and classes."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bayesal import errors, pools
from bayesal._report._html import Markup, data, element, joined, png, table

BATCHES, SHOWN = 2, 12  # of a strategy, and points of each
STRATEGIES = 8
SMALLEST, SMALLEST_FLAT = 4, 8  # pixels of a side; of a row that is not shaped as an image
BYTES = 250_000  # of all thumbnails before they are compressed
# Of images: differences of neighboring pixels relative to those of any two, at most so in either
# direction and on average. Digits of 8 x 8 have 0.47 and 0.80; noise and embeddings have 1.
ROUGH, ROUGH_MEAN = 0.9, 0.75


class Batch(NamedTuple):
    """What one strategy asked for in one round: rows of the pool, after so many labels."""

    strategy: str
    seed: int
    labels: int
    rows: np.ndarray


def section(results: Any, pool: Any, labels: Any) -> Markup:
    """The first batches of each strategy, of its first finished seed."""
    batches = list(_batches(results))
    rows = np.unique(np.concatenate([batch.rows for batch in batches]))
    classes = _classes(labels, rows)
    images = None if pool is None else as_images(_taken(pool, rows))
    if images is None:
        return _as_rows(batches, dict(zip(rows.tolist(), classes, strict=True)))
    looks = dict(zip(rows.tolist(), zip(_bytes(images), classes, strict=True), strict=True))
    parts = []
    for batch in batches:
        head = f"{batch.strategy}, after {batch.labels:,} labels (seed {batch.seed})"
        figures = [_thumbnail(int(row), *looks[int(row)]) for row in batch.rows[:SHOWN]]
        more = len(batch.rows) - SHOWN
        rest = [element("p", f"and {more} more", class_="note")] if more > 0 else []
        parts += [element("h3", head), element("div", *figures, class_="thumbnails"), *rest]
    return joined(*parts)


def as_images(rows: np.ndarray) -> np.ndarray | None:
    """Rows as gray `[n, h, w]` or color `[n, h, w, 3]`; None where they are no images.

    A flat row of a square length is one if its neighboring numbers resemble each other: those of
    an embedding do not.

    >>> as_images(np.zeros((2, 8, 8, 1))).shape, as_images(np.zeros((2, 10)))
    ((2, 8, 8), None)
    """
    if rows.dtype.kind not in "uifb" or len(rows) == 0 or not np.isfinite(rows).all():
        return None
    if rows.ndim == 4 and rows.shape[1] in (1, 3) and min(rows.shape[2:]) >= SMALLEST:
        rows = np.moveaxis(rows, 1, -1)
    if rows.ndim == 4 and rows.shape[-1] == 1:
        rows = rows[..., 0]
    if rows.ndim == 2:
        side = round(rows.shape[1] ** 0.5)
        if side < SMALLEST_FLAT or side * side != rows.shape[1]:
            return None
        square = rows.reshape(-1, side, side)
        return square if _smooth(square) else None
    image = rows.ndim == 3 or (rows.ndim == 4 and rows.shape[-1] == 3)
    return rows if image and min(rows.shape[1:3]) >= SMALLEST else None


def _smooth(images: np.ndarray) -> bool:
    """Whether neighbors differ less than any two pixels of an image do."""
    host = images.astype(np.float64)
    rough = np.array([np.abs(np.diff(host, axis=axis)).mean() for axis in (1, 2)])
    flat = host.reshape(len(host), -1)
    mixed = flat[:, np.random.default_rng(0).permutation(flat.shape[1])]
    any_two = np.abs(flat - mixed).mean()
    return bool(rough.max() < ROUGH * any_two and rough.mean() < ROUGH_MEAN * any_two)


def _batches(results: Any) -> Iterator[Batch]:
    for name in results.strategies[:STRATEGIES]:
        found = np.flatnonzero((results.picks[name] >= 0).all(axis=(1, 2)))
        if len(found):
            at = found[0]
            for round, rows in enumerate(results.picks[name][at][:BATCHES]):
                yield Batch(name, results.seeds[at], int(results.labels[round]), rows)


def _taken(pool: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of a pool; none of one that only a whole pass could read."""
    if callable(pool):
        return np.zeros(0)
    if isinstance(pool, np.ndarray):
        count: int | None = len(pool)
        take: Callable[[np.ndarray], Any] = lambda rows: pool[rows]
    else:
        opened = pools.of(pool)
        count, take = opened.rows, opened.take
    if count is not None and count <= rows[-1]:
        raise errors.WrongShape(
            "pool",
            f"`pool` has {count} rows, and row {rows[-1]} was picked. Pass the pool that the runs "
            "picked from.",
        )
    return np.asarray(take(rows))


def _classes(labels: Any, rows: np.ndarray) -> list[str]:
    """The label of each row as text; empty where there is none, or none of one number."""
    if labels is None or isinstance(labels, dict | tuple):
        return [""] * len(rows)
    host = np.asarray(labels)
    if len(host) <= rows[-1]:
        raise errors.WrongShape(
            "labels",
            f"`labels` has {len(host)} rows, and row {rows[-1]} was picked. Pass the label of each "
            "row of the pool.",
        )
    some = host[rows]
    if some.ndim == 2:
        some = some.argmax(axis=-1)
    if some.ndim != 1 or some.dtype.kind not in "biufU":
        return [""] * len(rows)
    return [f"{value:.3g}" if some.dtype.kind == "f" else str(value) for value in some]


def _bytes(images: np.ndarray) -> np.ndarray:
    """Images as bytes, small enough for a page. Of gray ones high is dark, as in `plots`."""
    sides = images.shape[1:3]
    channels = 3 if images.ndim == 4 else 1
    most = max(int((BYTES / len(images) / channels) ** 0.5), SMALLEST)
    step = max(-(-max(sides) // min(most, 64)), 1)
    if step > 1:  # means of squares: every step-th pixel alone would be noise
        height, width = (side - side % step for side in sides)
        cut = images[:, : max(height, 1), : max(width, 1)].astype(np.float64)
        shape = (len(cut), height // step, step, width // step, step, *cut.shape[3:])
        images = cut.reshape(shape).mean(axis=(2, 4))
    host = images.astype(np.float64)
    if images.ndim == 4 and host.min() >= 0 and host.max() <= 255:
        return (host * (255 if host.max() <= 1 else 1)).round().astype(np.uint8)
    low, high = host.min(), host.max()
    scaled = 255 * (host - low) / (high - low or 1.0)
    return (scaled if images.ndim == 4 else 255 - scaled).round().astype(np.uint8)


def _thumbnail(row: int, image: np.ndarray, label: str) -> Markup:
    said = f"row {row}" + (f", label {label}" if label else "")
    picture = element(
        "img",
        src=data("image/png", png(image)),
        alt=said,
        title=said,
        width=image.shape[1],
        height=image.shape[0],
    )
    return element("figure", picture, element("figcaption", label or str(row)))


def _as_rows(batches: list[Batch], classes: dict[int, str]) -> Markup:
    said = lambda row: f"{row} ({classes[row]})" if classes[row] else str(row)
    listed = lambda rows: (
        ", ".join(said(int(row)) for row in rows[:SHOWN])
        + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
    )
    labeled = " (and its label)" if any(classes.values()) else ""
    return table(
        "The first batches of each strategy, best first",
        ["strategy", "seed", "after labels", f"rows of the pool{labeled}"],
        [[b.strategy, str(b.seed), f"{b.labels:,}", listed(b.rows)] for b in batches],
        words=(0, 3),
    )


def note(results: Any) -> str:
    """What is not shown."""
    count = len(results.strategies)
    return f"The first {STRATEGIES} of {count} strategies." if count > STRATEGIES else ""
