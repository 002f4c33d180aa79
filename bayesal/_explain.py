"""Why these points: for every pick of a batch what it tells, what it adds, what is near it and what
it displaced.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, _shown, errors, scores
from bayesal._choose import survey
from bayesal.select import _configurations as labels
from bayesal.types import USED_UP, About, Array, ArrayLike, Gaussian, Key, Mixture, Selection

CONFIGURATIONS = (
    2000  # sampled label configurations behind the gains of a selection that reports none
)
BY_GAIN, BY_SCORE, BY_CHANCE = "gain", "own score", "chance"


class Explanation(NamedTuple):
    """One entry per pick, in the order of the batch; information in nats. Printed, and shown by a
    notebook, it is a table.

    row:        row of the pool.
    total:      entropy of the averaged prediction; `total = aleatoric + epistemic`.
    aleatoric:  mean entropy of the draws: noise that no label can take away.
    epistemic:  BALD of the pick alone.
    gain:       what its label adds, about what `about` says, to the labels of the picks before it;
      about draws and targets at most `epistemic`.
    joint:      information in the batch up to and including it, about the same; at most `ceiling`.
    share:      `joint / ceiling`. Near 1 there is next to nothing left to learn from these draws;
      NaN where there is no ceiling.
    saturated:  whether the picks before it had used up 95 % of the ceiling, so that its gain is
      mostly noise.
    ordered_by: what put it in its place: "gain"; "gain, near ties by BALD" (of a batch about
                targets: by a bound on EPIG) once a greedy batch is saturated; or "own score" where
                  the selector reports no joint information; "chance" for an audit's picks, which
                  the gains of the others do
                not count.
    nearest:    row of the nearest labeled point by Euclidean distance, or -1.
    distance:   how far that is, or NaN.
    displaced:  the available point with the highest BALD that was left when this pick was made and
                that it beat although its own BALD is
                lower: passed over because the picks before it made it redundant (or for another
                  score). -1 if there was none.
    displaced_epistemic: its BALD, or NaN.
    about:      what gains and joint information are about, of the whole batch: the draws, the
      targets, or a function.
    ceiling:    the most that joint information can be: log K about the draws, the targets' mean
      BALD about targets, else NaN.
    """

    row: Int[np.ndarray, " B"]
    total: Float[np.ndarray, " B"]
    aleatoric: Float[np.ndarray, " B"]
    epistemic: Float[np.ndarray, " B"]
    gain: Float[np.ndarray, " B"]
    joint: Float[np.ndarray, " B"]
    share: Float[np.ndarray, " B"]
    saturated: Bool[np.ndarray, " B"]
    ordered_by: np.ndarray
    nearest: Int[np.ndarray, " B"]
    distance: Float[np.ndarray, " B"]
    displaced: Int[np.ndarray, " B"]
    displaced_epistemic: Float[np.ndarray, " B"]
    about: About
    ceiling: float

    def table(self) -> list[dict[str, Any]]:
        """One dict per pick, with None where there is nothing to say."""
        columns = {
            name: [_said(value.item()) for value in column]
            for name, column in zip(self._fields[:-2], self[:-2], strict=True)
        }
        for name in ("nearest", "displaced"):
            columns[name] = [None if row < 0 else row for row in columns[name]]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def caption(self) -> str:
        """What the gains are about, what bounds them, and from where on they are used up."""
        most = (
            "without a ceiling"
            if np.isnan(self.ceiling)
            else f"at most {self.ceiling:.4f} nats" + " (log K)" * (self.about is About.DRAWS)
        )
        late = (
            f"; {100 * USED_UP:.0f} % used up before pick {int(np.argmax(self.saturated)) + 1}"
            if self.saturated.any()
            else ""
        )
        return f"gain and joint: information about the {self.about}, {most}{late}"

    def __str__(self) -> str:
        rows = [list(row.values()) for row in self.table()]
        return f"{self.caption()}\n{_shown.table(self._fields[:-2], rows)}"

    @_shown.safe
    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [list(row.values()) for row in self.table()]
        return _shown.table_html(self.caption(), self._fields[:-2], rows)


def _said(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def explain(
    selection: Selection,
    predictive: Callable[[Any], Any] | None,
    pool: Any,
    *,
    labeled: Int[ArrayLike, " M"] | None = None,
    features: Float[ArrayLike, "N D"] | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
    key: int | Key | None = None,
) -> Explanation:
    """What each pick of a batch tells, adds and displaced.

    gain_b = I(y_b; w | y_1..y_(b-1)) = E[BALD of pick b under the posterior over draws after the
    labels before it];  0 <= gain_b <= BALD. That is information about the draws. Gains and joint
    information are the selection's own where it reports them (greedy selectors), about what it says
    they are about: those of batch EPIG are about the targets, those of a determinant about a
    function. For any other selection they are about the draws, estimated from 2,000 sampled label
    configurations, the first exactly. They show how much a batch chosen point by point counts
    twice.

    Args:
      selection: the batch, as `choose`, `ask` or a selector gives it; entries of -1 are left out.
      predictive, pool: what the batch was chosen with; see `choose`. Log-probabilities of your own
        are `None, pools.numbers(log_probs=..., axes="K N C")`.
      labeled: rows of the pool that have labels; then each pick's nearest one is found.
      features: a vector per row for these distances; the predictive's `embed` if None.
      available: the points that could be picked; all if None.
      key: fixes the sampled configurations; `jax.random.key(0)` if None.
    Raises:
      NotLogProbabilities, NonFinite, WrongShape, WrongIndex, MissingEmbed.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283 (the split); Kirsch et al. 2019,
      https://arxiv.org/abs/1906.08158 (gains)

    >>> from bayesal import pools, select
    >>> # rows 0 and 1 are the same point
    >>> copies = jnp.log(jnp.array([[0.9, 0.9, 0.6], [0.1, 0.1, 0.4]]))
    >>> log_probs = jnp.stack([copies, jnp.log1p(-jnp.exp(copies))], axis=-1)
    >>> pool = pools.numbers(log_probs=log_probs, axes="K N C")
    >>> why = explain(select.top(scores.bald(log_probs), 2), None, pool)
    >>> # the copy adds less than it tells alone
    >>> [round(float(g), 2) for g in why.epistemic], [round(float(g), 2) for g in why.gain]
    ([0.37, 0.37], [0.37, 0.15])
    """
    bald, again = survey(predictive, pool, _bald)
    bald = np.asarray(bald)
    count = len(bald)
    picks, kept = _picks(selection, count)
    mask = np.asarray(_checks.available_rows(available, count))
    if not mask[picks].all():
        raise errors.WrongIndex(
            "available",
            "`available` leaves out rows that were picked: "
            f"{_checks.listed(picks[~mask[picks]])}. Pass the mask the batch was chosen with.",
        )
    chosen = _checks.log_probs(jnp.asarray(again(picks)), "predictive", ndim=3)
    parts = scores.decompose(chosen)
    gain, joint, saturated, ordered_by, about, ceiling = _gains(
        selection, kept, chosen, bald[picks], key
    )
    if selection.audit is not None:
        ordered_by = np.where(np.asarray(selection.audit)[kept], BY_CHANCE, ordered_by)
    nearest, distance = _nearest(picks, labeled, features, again, count)
    displaced = _displaced(picks, bald, mask & ~np.isnan(bald))
    return Explanation(
        row=picks,
        total=np.asarray(parts.total),
        aleatoric=np.asarray(parts.aleatoric),
        epistemic=bald[picks],
        gain=gain,
        joint=joint,
        share=joint / ceiling if ceiling else np.zeros_like(joint),
        saturated=saturated,
        ordered_by=ordered_by,
        nearest=nearest,
        distance=distance,
        displaced=displaced,
        displaced_epistemic=np.where(displaced >= 0, bald[displaced], np.nan),
        about=about,
        ceiling=ceiling,
    )


def _bald(predictive, x):
    said = predictive(x)
    if isinstance(said, Gaussian | Mixture):
        raise errors.WrongType(
            "predictive",
            "`explain` is of classes, and `predictive` predicts real labels. The `scores` and "
            "`joint` of a Selection say what each of its picks tells.",
        )
    return scores.bald(said)


def _picks(selection: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(selection, Selection):
        raise errors.WrongShape(
            "selection",
            "`selection` must be a Selection, as bayesal.choose, a learner's `ask` or a selector "
            f"gives; got {type(selection).__name__}.",
        )
    rows = np.asarray(selection.indices)
    kept = rows != -1
    return _checks.indices(rows[kept], count, "selection"), kept


def _gains(selection, kept, chosen, bald, key):
    """Gain, joint information, saturation, order, and what they are about with its ceiling: as the
    selection reports them, or estimated.
    """
    if selection.about is None:
        ceiling = float(np.log(chosen.shape[0]))
        key = jax.random.key(0) if key is None else _checks.key(key)
        gain = np.minimum(np.asarray(_along(key, chosen)), bald)
        joint = np.minimum(np.cumsum(gain, dtype=np.float32), np.float32(ceiling))
        return (
            gain,
            joint,
            np.asarray(labels.used_up(jnp.asarray(joint), jnp.float32(ceiling))),
            np.full(len(gain), BY_SCORE),
            About.DRAWS,
            ceiling,
        )
    gain, joint = np.asarray(selection.scores)[kept], np.asarray(selection.joint)[kept]
    if selection.ceiling is None:
        return (
            gain,
            joint,
            np.zeros(len(gain), bool),
            np.full(len(gain), BY_GAIN),
            selection.about,
            float("nan"),
        )
    saturated = np.asarray(selection.saturated)[kept]
    ordered_by = np.where(saturated, f"{BY_GAIN}, near ties by {selection.about.fallback}", BY_GAIN)
    return gain, joint, saturated, ordered_by, selection.about, float(selection.ceiling)


@jax.jit
def _along(key: Key, log_probs: Float[Array, "K B C"]) -> Float[Array, " B"]:
    """Gain of each point given those before it, from configurations sampled from every draw in
    equal number.
    """
    draws = log_probs.shape[0]
    rows = draws * -(-CONFIGURATIONS // draws)
    start = labels.Configurations(
        jnp.full((rows, draws), 1.0 / draws, jnp.float32), jnp.full(rows, 1.0 / rows, jnp.float32)
    )

    def one(state, now):
        key, log_p = now  # [K, C]
        probs = jnp.exp(log_p)
        gain = labels.information(state, probs[..., None], _maths.entropy(log_p)[:, None])[0]
        return labels.observe_sampled(key, state, probs, True), jnp.maximum(gain, 0.0)

    return jax.lax.scan(
        one, start, (jax.random.split(key, log_probs.shape[1]), jnp.moveaxis(log_probs, 1, 0))
    )[1]


def _nearest(picks, labeled, features, again, count):
    """The nearest labeled point of each pick, ties to the lowest row; -1 and NaN without one."""
    nearest, distance = np.full(len(picks), -1), np.full(len(picks), np.nan)
    if labeled is None:
        if features is not None:
            raise errors.WrongShape(
                "labeled", "`labeled` is missing: distances are measured to rows that have labels."
            )
        return nearest, distance
    labeled = np.sort(_checks.indices(labeled, count, "labeled"))
    if features is None:
        vectors = lambda rows: np.asarray(again.embedded(rows))
    else:
        features = _features(features, count)
        vectors = lambda rows: features[rows]
    if not len(labeled):
        return nearest, distance
    known, own = vectors(labeled).astype(np.float64), vectors(picks)
    for b in range(len(picks)):
        apart = np.sqrt(np.sum(np.square(known - own[b]), axis=1))
        nearest[b], distance[b] = labeled[np.argmin(apart)], apart.min()
    return nearest, distance


def _features(features, count):
    host = np.asarray(features)
    if host.ndim != 2 or len(host) != count:
        raise errors.WrongShape(
            "features",
            f"`features` must have shape ({count}, D), one vector per pool point; got "
            f"{host.shape}. Flatten images first.",
        )
    bad = np.flatnonzero(~np.isfinite(host.astype(np.float32)).all(axis=1))
    if len(bad):
        raise errors.NonFinite(
            "features",
            f"`features` is NaN or infinite at {len(bad)} rows: {_checks.listed(bad)}.",
            bad,
        )
    return host


def _displaced(picks, bald, mask):
    """Per pick the best by BALD among what was left, or -1 where the pick is as good."""
    left = np.where(mask, bald, -np.inf)
    displaced = np.full(len(picks), -1)
    for b, pick in enumerate(picks):
        best = int(np.argmax(left))
        displaced[b] = best if left[best] > left[pick] else -1
        left[pick] = -np.inf
    return displaced
