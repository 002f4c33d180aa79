"""What the experiments' pictures add to `bayesal.plots`: curves of flat records, and a file.

A record is one round of one run: strategy, seed, labels, and its figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bayesal import plots

# Okabe and Ito, for what only one experiment draws
BLUE, VERMILION, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"


def save(picture, path):
    """Writes a figure, or the figure that holds an axes, to `path` (110 dots per inch, tight) and
    returns the path.
    """
    figure = picture.get_figure() if hasattr(picture, "transData") else picture
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    return path


def curves(records: Sequence[Mapping], field: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Numbers of labels `[R]` and a field's values `[S, R]` by strategy; NaN where none is.

    >>> some = [{"strategy": "a", "seed": 0, "labels": n, "nll": 1.0 / n} for n in (2, 4)]
    >>> curves(some, "nll")
    (array([2, 4]), {'a': array([[0.5 , 0.25]])})
    """
    labels = np.array(sorted({record["labels"] for record in records}), int)
    seeds = sorted({record["seed"] for record in records})
    found = {r["strategy"]: np.full((len(seeds), len(labels)), np.nan) for r in records}
    for record in records:
        if record[field] is not None:
            place = seeds.index(record["seed"]), np.searchsorted(labels, record["labels"])
            found[record["strategy"]][place] = record[field]
    return labels, found


def learning_curves(records: Sequence[Mapping], field: str = "accuracy", ax=None, *, target=()):
    """Median and quartiles over seeds of one field, a line for each strategy."""
    labels, found = curves(records, field)
    return plots.learning_curves(
        found, ax, labels=labels, metric=field, target=target, band="quartiles"
    )


def panels(
    records: Sequence[Mapping], fields: Mapping[str, str], *, logarithmic: Sequence[str] = ()
):
    """Learning curves of several fields side by side. Returns the figure.

    fields: field of a record -> what its panel says; those in `logarithmic` get such an axis.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(fields), figsize=(5.6 * len(fields), 3.8), layout="constrained", squeeze=False
    )
    for ax, (field, said) in zip(axes[0], fields.items(), strict=True):
        if field in logarithmic:
            ax.set_yscale("log")
        learning_curves(records, field, ax)
        ax.set_ylabel(said)
    return figure
