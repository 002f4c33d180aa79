import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import errors, retune
from bayesal.retune import _proposers as proposers
from bayesal.retune import _racing
from bayesal.retune import _spaces as spaces
from bayesal.retune._history import History, empty, remember
from bayesal.retune._retuners import fixed
from bayesal.retune._spaces import choice
from bayesal.types import HParams

pytestmark = pytest.mark.usefixtures("strict")

START = HParams(
    *(
        jnp.int32(v) if name in ("steps", "architecture") else jnp.float32(v)
        for name, v in zip(HParams._fields, HParams(), strict=True)
    )
)
ALL = np.arange(20) % 4 == np.arange(4)[:, None]  # four folds of five rows


# how candidates stand, and who wins


def raced(losses, rows=ALL, folds=None, log_temperatures=(0.0,), group=None):
    losses = jnp.asarray(losses, jnp.float32).reshape(*np.shape(losses)[:2], -1)
    done = (
        np.ones((len(losses), len(rows)), bool)
        if folds is None
        else np.arange(len(rows)) < np.asarray(folds)[:, None]
    )
    task = judging(None, rows, group=group, prior=0.5 * (np.asarray(log_temperatures) / 0.5) ** 2)
    return _racing.standing(
        _racing.Race(losses, jnp.asarray(done), (), jnp.int32(0), ()), task
    ), jnp.asarray(done.all(axis=1))


def judging(fit, rows, group=None, prior=(0.0,), **options):
    group = np.arange(len(rows[0])) if group is None else group
    return _racing.Task(
        fit,
        jnp.asarray(rows),
        jnp.asarray(group, jnp.int32),
        jnp.asarray(prior, jnp.float32),
        **options,
    )


def losses_of(*means, spread=0.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=(len(means), 20))
    noise -= noise.mean(axis=1, keepdims=True)
    return np.asarray(means)[:, None] + spread * noise


def test_a_clear_winner_wins():
    stand, whole = raced(losses_of(1.0, 0.9, 0.5, 0.7))
    assert int(_racing.winner(stand, whole)) == 2 and float(stand.errors[0]) == 0.0
    np.testing.assert_allclose(stand.losses, [1.0, 0.9, 0.5, 0.7], rtol=1e-6)
    np.testing.assert_allclose(stand.differences, [0.0, -0.1, -0.5, -0.3], atol=1e-6)


@given(st.integers(0, 2**31), st.floats(-0.5, 0.5))
def test_the_incumbent_stays_within_the_standard_error(seed, gap):
    losses = losses_of(1.0, 1.0 + gap, spread=1.0, seed=seed)
    stand, whole = raced(losses)
    by_hand = (losses[1] - losses[0]).std(ddof=1) / np.sqrt(20)
    assert abs(float(stand.errors[1]) - by_hand) < 1e-5
    if abs(gap + by_hand) > 1e-4:
        assert int(_racing.winner(stand, whole)) == (gap < -by_hand)


def test_a_tie_stays_with_the_incumbent():
    assert int(_racing.winner(*raced(losses_of(1.0, 1.0, 1.0)))) == 0


def test_a_candidate_is_compared_on_the_rows_it_has_seen():
    """Ahead on the first fold alone, where the incumbent is bad: judged there, and not kept
    for it.
    """
    losses = np.where(ALL[0], [[3.0], [2.5]], [[1.0], [0.0]])
    stand, whole = raced(losses, folds=[4, 1])
    np.testing.assert_allclose(stand.losses, [1.5, 2.5])
    np.testing.assert_allclose(stand.differences, [0.0, -0.5])
    assert int(_racing.winner(stand, whole)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_candidate_never_wins(bad):  # TRAPS 4
    losses = losses_of(1.0, 0.2, 0.5)
    losses[1, 3] = bad
    stand, whole = raced(losses)
    assert (
        int(_racing.winner(stand, whole)) == 2
        and float(stand.losses[1]) == np.inf
        and np.all(np.isfinite(stand.errors))
    )
    losses[2, 0] = bad
    assert int(_racing.winner(*raced(losses))) == 0
    broken_first = losses_of(1.0, 2.0, 1.5)
    broken_first[0, 0] = bad
    assert int(_racing.winner(*raced(broken_first))) == 2  # a broken incumbent always loses
    assert int(_racing.winner(*raced(np.full((3, 20), bad)))) == 0


@pytest.mark.parametrize("junk", [0.0, 1e6, np.nan, -np.inf])
def test_padding_changes_nothing(junk):  # TRAPS 21
    losses = losses_of(1.0, 0.9, 1.2, spread=0.3)
    padded = np.concatenate([losses, np.full((3, 60), junk)], axis=1)
    for a, b in zip(
        raced(padded, np.pad(ALL, ((0, 0), (0, 60))))[0], raced(losses)[0], strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_copies_count_as_one():
    """Four copies of every row say no more than the row: the same standard error, by the formula
    for clusters.
    """
    losses = losses_of(1.0, 0.9, spread=0.5)
    rows, copies = np.repeat(ALL, 4, axis=1), np.repeat(np.arange(20), 4)
    once, copied = (raced(losses)[0], raced(np.repeat(losses, 4, axis=1), rows, group=copies)[0])
    np.testing.assert_allclose(copied.errors, once.errors, rtol=1e-4)
    assert float(raced(np.repeat(losses, 4, axis=1), rows)[0].errors[1]) < 0.55 * float(
        once.errors[1]
    )


def test_a_candidate_that_is_the_incumbent_is_level_with_it_on_any_folds():
    """Each at the temperature that is best on the rows that both have seen."""
    noise = np.random.default_rng(0).gumbel(size=(1, 20, 15))
    stand, _ = raced(
        np.repeat(noise, 3, axis=0), folds=[4, 1, 2], log_temperatures=np.linspace(-1, 1.8, 15)
    )
    np.testing.assert_allclose(stand.differences, 0.0, atol=1e-6)


def test_each_candidate_is_judged_at_its_own_best_temperature():
    """The second is overconfident: behind at T = 1, ahead where both are tempered; the prior keeps
    what tells nothing at T = 1.
    """
    log_t = np.log([0.5, 1.0, 2.0])
    losses = np.broadcast_to(
        np.array([[1.2, 1.0, 1.1], [2.0, 1.5, 0.8], [1.3, 1.3, 1.3]])[:, None], (3, 20, 3)
    )
    stand, whole = raced(losses, log_temperatures=log_t)
    np.testing.assert_allclose(stand.losses, [1.0, 0.8, 1.3], rtol=1e-6)
    np.testing.assert_allclose(stand.differences, [0.0, -0.2, 0.3], atol=1e-6)
    assert (
        int(_racing.winner(stand, whole)) == 1 and int(_racing.winner(*raced(losses[:, :, 1]))) == 0
    )
    few = (
        1.0 - 0.01 * np.arange(3) + 0 * losses
    )  # twenty rows gain 0.2 nats by T = 2, and the prior asks for (log 2 / 0.5)^2 / 2 = 0.96
    np.testing.assert_allclose(raced(few, log_temperatures=log_t)[0].losses, 0.99, rtol=1e-6)


# the race


def table_task(losses, rows, count=None, **options):
    """Candidates that lose what a table says: row `dropout` of it; a fit returns its own number and
    fold.
    """

    held = jnp.concatenate([jnp.asarray(rows), jnp.zeros((1, len(rows[0])), bool)])

    def fit(hparams, fold):
        if count is not None:
            jax.debug.callback(
                lambda steps, at, fold: count.append((int(at), int(fold))) if steps > 0 else None,
                hparams.steps,
                hparams.dropout,
                fold,
            )
        mine = jnp.asarray(losses, jnp.float32)[hparams.dropout.astype(jnp.int32)]
        return jnp.where(held[fold], mine, 0.0)[:, None], (
            {"who": hparams.dropout, "fold": fold, "architecture": hparams.architecture},
            fold,
        )

    return judging(fit, rows, **options)


def numbered(size, steps=None, architectures=None):
    many = jax.tree.map(lambda value: jnp.broadcast_to(value, (size,)), START)
    return many._replace(
        dropout=jnp.arange(size, dtype=jnp.float32),
        steps=jnp.asarray(np.full(size, 5) if steps is None else steps, jnp.int32),
        architecture=jnp.asarray(
            np.zeros(size) if architectures is None else architectures, jnp.int32
        ),
    )


def halved(losses, rows, keep):
    """Successive halving as a person would write it, in exact numbers."""
    size, alive, done = len(losses), list(range(len(losses))), []
    for fold in range(len(rows)):
        done.append(set(alive))
        if fold + 1 == len(rows):
            break
        seen = rows[: fold + 1].any(axis=0)
        gap = lambda c: sum(
            Fraction(float(a)) - Fraction(float(b))
            for a, b in zip(losses[c][seen], losses[0][seen], strict=True)  # noqa: B023
        )
        number = max(math.ceil(size * keep ** (fold + 1)), min(size, 2))
        alive = sorted(alive, key=lambda c: (c != 0, gap(c)))[:number]
    return done


@given(st.integers(0, 2**31), st.sampled_from([2, 5, 8]), st.sampled_from([0.3, 0.5, 1.0]))
@settings(max_examples=2)
def test_the_race_is_successive_halving(seed, size, keep):
    rng = np.random.default_rng(seed)
    losses = rng.normal(size=(size, 20)).astype(np.float32)
    steps, architectures = rng.integers(1, 9, size), rng.integers(0, 3, size)
    expected = halved(losses, ALL, keep)
    for together, final, kept in ((1, True, True), (3, False, True), (None, True, False)):
        count = []
        found = _racing.race(
            table_task(losses, ALL, count, final=final, kept=kept),
            numbered(size, steps, architectures),
            keep,
            together,
        )
        jax.effects_barrier()
        done, chosen = np.asarray(found.done), int(found.chosen)
        assert [set(np.flatnonzero(done[:, fold]).tolist()) for fold in range(4)] == expected
        assert chosen == int(
            _racing.winner(*raced(losses * done.any(axis=1, keepdims=True), folds=done.sum(axis=1)))
        )
        assert sorted(count) == sorted(
            [(c, fold) for fold in range(4) for c in expected[fold]] + [(chosen, 4)] * final
        )  # each once, and no other
        assert len(count) == sum(_racing.rungs(size, 4, keep)) + final
        seen = done[:, :, None] & ALL[None]
        np.testing.assert_array_equal(
            found.losses[:, :, 0], np.where(seen.any(axis=1), losses, 0.0)
        )
        if final:
            assert (
                int(found.final[0]["who"]),
                int(found.final[0]["architecture"]),
                int(found.final[1]),
            ) == (chosen, architectures[chosen], 4)
        assert kept or found.states["who"].size == 0
        for name, truth in (
            ("who", np.arange(size)[:, None]),
            ("fold", np.arange(4)),
            ("architecture", architectures[:, None]),
        ):
            assert not kept or np.array_equal(
                np.asarray(found.states[name])[done], np.broadcast_to(truth, (size, 4))[done]
            )


def test_rungs_are_few_and_never_less_than_two():
    assert (
        _racing.rungs(8, 5) == (8, 4, 2, 2, 2)
        and _racing.rungs(2, 3) == (2, 2, 2)
        and _racing.rungs(9, 2, 0.3) == (9, 3)
    )


def test_a_broken_incumbent_goes_on_and_the_finite_go_before_the_broken():
    losses = losses_of(1.0, 5.0, 0.2, 3.0, 4.0, 2.0)
    losses[[0, 2], 0] = np.nan  # fold 0
    found = _racing.race(table_task(losses, ALL), numbered(6), 0.5)
    assert np.asarray(found.done).sum(axis=1).tolist() == [4, 1, 1, 2, 1, 4]


# spaces


@pytest.mark.parametrize(
    "distribution",
    [
        retune.uniform(-1.0, 3.0),
        retune.log_uniform(1e-5, 1e-1),
        retune.uniform(3, 40, whole=True),
        retune.log_uniform(50, 400, whole=True),
        choice(5),
    ],
)
def test_ranks_undo_quantiles(distribution):
    units = jnp.linspace(0.0, 1.0, 41)
    values = distribution.quantile(units)
    assert np.all(np.diff(values) >= 0)
    np.testing.assert_allclose(distribution.quantile(distribution.rank(values)), values, rtol=1e-5)
    assert (
        0 <= float(distribution.rank(-1e9)) <= float(distribution.rank(1e9)) <= 1
    )  # outside: the nearest end


def test_log_uniform_gives_every_decade_as_much():
    values = np.log10(np.asarray(retune.log_uniform(1e-4, 1e-1).quantile(jnp.linspace(0, 1, 3001))))
    assert np.histogram(values, [-4, -3, -2, -1])[0].tolist() == pytest.approx(
        [1000, 1000, 1000], abs=2
    )


def test_choices_are_alike_and_whole():
    values = np.asarray(choice(4).quantile(jnp.linspace(0, 0.9999, 4000)))
    assert values.dtype == np.int32 and np.bincount(values).tolist() == pytest.approx(
        [1000] * 4, abs=2
    )


def test_a_space_searches_what_it_is_told():
    space = retune.space(
        dropout=None, warmup=(0.0, 0.3), architecture=3, steps=retune.uniform(10, 20, whole=True)
    )
    assert spaces.searched(space) == (
        "learning_rate",
        "weight_decay",
        "prior_scale",
        "steps",
        "warmup",
        "architecture",
    )
    units = jax.random.uniform(jax.random.key(0), (50, 6))
    found = spaces.values(space, units, START)
    assert (
        np.all(np.asarray(found.dropout) == np.float32(0.3))
        and found.steps.dtype == found.architecture.dtype == jnp.int32
    )
    assert set(np.asarray(found.architecture).tolist()) == {0, 1, 2} and np.all(
        (found.steps >= 10) & (found.steps <= 20)
    )
    again = spaces.values(space, spaces.ranks(space, found), START)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), again, found)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("learning_rate", {"learning_rate": (0.0, 1.0)}),
        ("dropout", {"dropout": (0.1, 1.0)}),
        ("weight_decay", {"weight_decay": (0.1, 0.01)}),
        ("steps", {"steps": (-1, 5)}),
        ("prior_scale", {"prior_scale": (float("nan"), 1.0)}),
        ("warmup", {"warmup": (0.0, 1.5)}),
        ("architecture", {"architecture": 0}),
        ("steps", {"steps": "many"}),
        ("label_smoothing", {"label_smoothing": (-0.1, 0.1)}),
    ],
)
def test_bounds_that_are_none_are_refused_by_name(argument, options):
    with pytest.raises(errors.WrongSize, match=f"`{argument}`") as caught:
        retune.space(**options)
    assert caught.value.argument == argument


def test_unknown_fields_and_empty_spaces_are_refused():
    with pytest.raises(errors.UnknownName, match="momentum"):
        retune.space(momentum=(0.1, 0.9))
    with pytest.raises(errors.WrongSize, match="nothing to search"):
        retune.space(
            **dict.fromkeys(("learning_rate", "weight_decay", "dropout", "prior_scale", "steps"))
        )


# history


def told(history, values, round, chosen=0, places=None):
    many = numbered(len(values))
    differences = jnp.asarray(values, jnp.float32)
    return remember(
        history,
        History(
            many,
            differences + 1,
            differences,
            0 * differences,
            jnp.full(len(values), 3, jnp.int32),
            jnp.full(len(values), round, jnp.int32),
            history.count + jnp.zeros(len(values), jnp.int32),
            jnp.arange(len(values)) == chosen,
            jnp.int32(len(values)),
        ),
    )


def test_the_history_is_told_in_order_and_forgets_the_oldest():
    history = empty(7, START)
    for round in range(3):
        history = told(history, [0.0, 1.0 + round, 2.0 + round], round, chosen=round)
        columns = retune.table(history)
        rows = [(r, c) for r in range(round + 1) for c in range(3)][-7:]
        assert (
            list(
                zip(columns["round"].tolist(), columns["dropout"].astype(int).tolist(), strict=True)
            )
            == rows
        )
        assert columns["chosen"].tolist() == [r == c for r, c in rows]
        np.testing.assert_allclose(columns["difference"], [c + r if c else 0.0 for r, c in rows])
    assert retune.table(empty(7, START))["loss"].shape == (0,)


# proposals


@pytest.mark.parametrize(
    "proposer",
    [
        retune.local_proposer(),
        retune.local_proposer(1.0),
        retune.gp_proposer(),
        retune.gp_proposer(0.0),
        retune.gp_proposer(1.0),
    ],
)
def test_proposals_lie_in_the_cube_and_obey_the_key(proposer):
    space = retune.space(architecture=3)
    history = told(
        told(empty(64, START), [0.0, np.inf, -0.1, 0.3], 0), [0.0, np.nan, 0.2, np.inf], 1
    )
    ask = asking(proposer, space, 5)
    one, same, other = (np.asarray(ask(jax.random.key(k), history)) for k in (0, 0, 1))
    assert one.shape == (5, 6) and np.all((one >= 0) & (one <= 1))
    assert (
        np.array_equal(one, same)
        and not np.array_equal(one, other)
        and len(np.unique(one, axis=0)) == 5
    )


@functools.cache
def asking(proposer, space, size):
    """One program for the proposals."""
    return jax.jit(lambda key, history: proposer.ask(key, history, space, START, size))


def bowl(units):
    """The first axis matters, the second does not; the best is at 0.8."""
    return jnp.square(units[:, 0] - 0.8)


def test_a_surrogate_learns_from_earlier_rounds_what_matters_and_where():
    """Rounds differ by large constants, and what is far off diverges; still the proposals go where
    the bowl is lowest.
    """
    space = retune.space(**dict.fromkeys(("weight_decay", "prior_scale", "steps")))
    ask, found = asking(retune.gp_proposer(0.0), space, 4), []
    for seed in range(3, 9):
        history = empty(64, START)
        for round, key in enumerate(jax.random.split(jax.random.key(seed), 5)):
            units = jax.random.uniform(key, (6, 2))
            loss = jnp.where(units[:, 0] < 0.1, jnp.inf, bowl(units) - bowl(units[:1]))
            tried = History(
                spaces.values(space, units, START),
                loss + 100 * round,
                loss,
                0 * loss,
                jnp.full(6, 3, jnp.int32),
                jnp.full(6, round, jnp.int32),
                jnp.full(6, 6 * round, jnp.int32),
                loss == 0,
                jnp.int32(6),
            )
            history = remember(history, tried)
        found += [ask(key, history) for key in jax.random.split(jax.random.key(100 + seed), 4)]
    proposed = jnp.concatenate(found)
    assert float(jnp.median(jnp.abs(proposed[:, 0] - 0.8))) < 0.12  # 0.3 by chance
    assert float(jnp.std(proposed[:, 1])) > 0.2  # what does not matter stays open


@pytest.mark.parametrize(
    ("argument", "build"),
    [
        ("local", lambda: retune.local_proposer(1.5)),
        ("width", lambda: retune.local_proposer(0.5, -1.0)),
        ("fresh", lambda: retune.gp_proposer(2.0)),
        ("fading", lambda: retune.gp_proposer(0.2, 0.0)),
    ],
)
def test_options_of_proposers_are_checked(argument, build):
    with pytest.raises(errors.OutOfRange, match=f"`{argument}`"):
        build()


def test_what_was_learned_fades():
    """Two old rounds against one new one, whose best place is another: the longer the memory, the
    more the old ones are followed.
    """
    space = retune.space(**dict.fromkeys(("weight_decay", "prior_scale", "steps", "dropout")))
    history = empty(64, START)
    for round, place in ((0, 0.2), (1, 0.2), (30, 0.8)):
        units = jnp.linspace(0.0, 1.0, 9)[:, None]
        loss = jnp.square(units[:, 0] - place)
        history = remember(
            history,
            History(
                spaces.values(space, units, START),
                loss,
                loss,
                0 * loss,
                jnp.full(9, 3, jnp.int32),
                jnp.full(9, round, jnp.int32),
                jnp.full(9, round, jnp.int32),
                loss < 0,
                jnp.int32(9),
            ),
        )
    near = lambda fading: float(
        jnp.mean(
            jnp.abs(
                asking(retune.gp_proposer(0.0, fading), space, 8)(jax.random.key(0), history)[:, 0]
                - 0.8
            )
        )
    )
    assert near(3.0) < 0.15 < near(1e6)


def test_one_proposal_learns_too():
    space = retune.space(**dict.fromkeys(("weight_decay", "prior_scale", "steps", "learning_rate")))
    history = told(empty(64, START), [0.0, 1.0], 0)
    ask = asking(retune.gp_proposer(), space, 1)
    found, nothing_known = (
        np.asarray(ask(jax.random.key(0), known)) for known in (history, empty(64, START))
    )
    assert found.shape == (1, 1) and not np.array_equal(found, nothing_known)


def test_choices_are_not_repeated_while_there_are_others():
    space = retune.space(
        architecture=4,
        **dict.fromkeys(("learning_rate", "weight_decay", "dropout", "prior_scale", "steps")),
    )
    for seed in range(5):
        units = asking(retune.gp_proposer(0.0), space, 5)(jax.random.key(seed), empty(64, START))[
            :4
        ]  # the last one is anywhere
        assert sorted(spaces.values(space, units, START).architecture.tolist()) == [0, 1, 2, 3]


def test_the_surrogate_s_kernel_is_matern():
    choices = proposers._kernel(
        jnp.array([[0.1, 0.5]]),
        jnp.array([[0.9, 0.5], [0.1, 0.5]]),
        jnp.array([0.7, 1.0]),
        jnp.array([True, False]),
    )
    apart = math.sqrt(5) / 0.7  # two choices are one unit apart, whichever
    np.testing.assert_allclose(
        choices, [[(1 + apart + apart**2 / 3) * math.exp(-apart), 1.0]], rtol=1e-5
    )
    rng = np.random.default_rng(0)
    a, b, length = rng.random((3, 2)), rng.random((4, 2)), np.array([0.3, 2.0])
    found = proposers._kernel(
        jnp.asarray(a, jnp.float32),
        jnp.asarray(b, jnp.float32),
        jnp.asarray(length, jnp.float32),
        jnp.zeros(2, bool),
    )
    for i in range(3):
        for j in range(4):
            r = math.sqrt(5 * sum(((a[i, d] - b[j, d]) / length[d]) ** 2 for d in range(2)))
            assert float(found[i, j]) == pytest.approx((1 + r + r * r / 3) * math.exp(-r), abs=1e-5)


# the whole


def quadratic(seen=None):
    """A fake task: the best learning rate is 1e-2, the best dropout 0.1."""

    def fit(hparams, fold):
        if seen is not None:
            seen.append(1)
        loss = jnp.square(jnp.log(hparams.learning_rate / 1e-2)) + jnp.square(hparams.dropout - 0.1)
        return jnp.where(jnp.asarray(np.vstack([ALL, 0 * ALL[:1]]).astype(bool))[fold], loss, 0.0)[
            :, None
        ], ({"rate": hparams.learning_rate, "fold": fold}, fold)

    return judging(fit, ALL)


def test_candidates_are_within_bounds_and_the_kept_one_comes_with_its_fits():
    retuner = retune.successive_halving(5)
    run = jax.jit(lambda key, memory: retuner.run(key, quadratic(), START, memory, jnp.int32(0)))
    for key in jax.random.split(jax.random.key(0), 3):
        hparams, tuning, memory = run(key, retuner.init(START))
        for name in spaces.searched(retune.space()):
            units = np.asarray(getattr(retune.space(), name).rank(getattr(tuning.candidates, name)))
            assert units.shape == (5,) and np.all((units >= 0) & (units <= 1))
        assert all(float(a[0]) == float(b) for a, b in zip(tuning.candidates, START, strict=True))
        picked = int(tuning.chosen)
        assert all(
            float(a[picked]) == float(b) for a, b in zip(tuning.candidates, hparams, strict=True)
        )
        assert tuning.states["rate"].tolist() == [
            float(hparams.learning_rate)
        ] * 4 and tuning.states["fold"].tolist() == [0, 1, 2, 3]
        assert (
            float(tuning.final[0]["rate"]) == float(hparams.learning_rate)
            and int(tuning.final[1]) == 4
        )
        assert (
            float(tuning.losses[picked]) <= float(tuning.losses[0])
            and tuning.folds.tolist().count(4) == 2
        )
        assert retune.table(memory)["chosen"].tolist() == [i == picked for i in range(5)]


@pytest.mark.parametrize("proposer", [retune.local_proposer(), retune.gp_proposer()])
def test_rounds_improve_and_compile_once(proposer):  # TRAPS 20
    retuner, seen = retune.successive_halving(8, proposer=proposer), []
    task = quadratic(seen)
    round_ = jax.jit(
        lambda key, hparams, memory, round: retuner.run(key, task, hparams, memory, round)
    )
    hparams, memory, best, traced = START, retuner.init(START), np.inf, None
    for round, key in enumerate(jax.random.split(jax.random.key(1), 10)):
        hparams, tuning, memory = round_(key, hparams, memory, jnp.int32(round))
        assert float(tuning.losses[tuning.chosen]) <= best
        best, traced = float(tuning.losses[tuning.chosen]), traced or len(seen)
    assert (
        len(seen) == traced and best < 0.1 and round_._cache_size() == 1 and int(memory.count) == 80
    )


def test_a_range_of_one_value_is_that_value():
    retuner = retune.successive_halving(4, retune.space(dropout=(0.25, 0.25), steps=(100, 100)))
    tuning = jax.jit(
        lambda memory: retuner.run(jax.random.key(0), quadratic(), START, memory, jnp.int32(0))[1]
    )(retuner.init(START))
    np.testing.assert_allclose(tuning.candidates.dropout[1:], 0.25, rtol=1e-5)
    assert tuning.candidates.steps[1:].tolist() == [100, 100, 100]


def test_keep_keeps():
    hparams, tuning, memory = fixed().run(jax.random.key(0), None, START, (), jnp.int32(0))
    assert (
        hparams is START
        and int(tuning.chosen) == 0
        and tuning.states is None
        and tuning.final is None
        and memory == ()
    )


@given(st.integers(4, 60), st.integers(2, 6), st.booleans())
def test_a_budget_of_fits_is_kept_and_used(fits, folds, halve):
    from bayesal.retune._retuners import affordable

    share = 0.5 if halve else 1.0
    if sum(_racing.rungs(2, folds, share)) > fits:
        with pytest.raises(errors.WrongSize, match="`fits`"):
            affordable(fits, folds, share)
    else:
        size = affordable(fits, folds, share)
        assert (
            sum(_racing.rungs(size, folds, share))
            <= fits
            < sum(_racing.rungs(size + 1, folds, share))
        )


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("size", {"size": 1}),
        ("fits", {"fits": 3}),
        ("fits", {"size": 4, "fits": 20}),
        ("seconds", {"seconds": 0.0}),
        ("places", {"size": 8, "places": 4}),
    ],
)
def test_sizes_that_are_none_are_refused_by_name(argument, options):
    with pytest.raises(errors.WrongSize, match=f"`{argument}`") as caught:
        retune.successive_halving(**options)
    assert caught.value.argument == argument


def test_more_candidates_than_places_are_refused():
    retuner = retune.successive_halving(fits=60, places=5)
    with pytest.raises(errors.WrongSize, match="`places`"):
        retuner.run(jax.random.key(0), quadratic(), START, retuner.init(START), jnp.int32(0))


def test_a_space_or_a_proposer_that_is_none_is_refused():
    with pytest.raises(errors.WrongType, match="`proposer`"):
        oracles.as_users_do(retune.successive_halving)(proposer=retune.gp_proposer)
    with pytest.raises(errors.WrongType, match="`space`"):
        retune.successive_halving(space=HParams(learning_rate=(1e-3, 1e-2)))
