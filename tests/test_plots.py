"""What the pictures show, by what is drawn: data of lines, marks, words and limits. Never by
pixels.
"""

import itertools

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.testing import assert_allclose
from oracles import as_users_do

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import bayesal
from bayesal import errors, explain, metrics, plots, pools, scores, select
from bayesal.plots import _calibration, _style

LABELS = 20 + 10 * np.arange(20)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def by_gid(ax, gid):
    return [artist for artist in ax.findobj() if artist.get_gid() == gid]


def words(ax, gid):
    return [text.get_text() for text in by_gid(ax, gid)]


def title(ax):
    return ax.get_title(loc="left")


def named_lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def made_up_curves(names=("chance", "bald", "batch_bald"), seeds=5):
    rng = np.random.default_rng(0)
    noise = lambda: rng.normal(0, 0.01, (seeds, 1)) + rng.normal(0, 0.004, (seeds, len(LABELS)))
    rise = lambda rate: 0.97 - 0.55 * np.exp(-(LABELS - 20) / rate)
    return {name: rise(55 - 12 * i) + noise() for i, name in enumerate(names)}


def made_up_results(**more):
    curves = made_up_curves()
    rng = np.random.default_rng(1)
    shape = (5, len(LABELS))
    hparams = {
        "learning_rate": 10 ** rng.normal(-2.5, 0.2, shape),
        "dropout": np.where(np.arange(20) == 3, 0.0, rng.uniform(0.2, 0.6, shape)),
        "prior_scale": np.ones(shape),
        "steps": rng.integers(200, 800, shape).astype(float),
    }
    parts = {
        "strategies": tuple(curves),
        "seeds": tuple(range(5)),
        "labels": LABELS,
        "curves": {
            name: {"accuracy": curve, "nll": 1 - curve, "temperature": 1 + curve}
            for name, curve in curves.items()
        },
        "picks": {},
        "first": np.zeros((5, 20), int),
        "hparams": {name: hparams for name in curves},
        "seconds": {},
        "failed": {},
        "config": {},
    }
    return bayesal.Results(**parts | more)


def made_up_predictions(n=1500, classes=10, heat=2.2):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.6, (n, classes))
    labels = np.array([rng.choice(classes, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    normal = lambda z: (z - np.log(np.exp(z).sum(axis=1, keepdims=True))).astype(np.float32)
    return normal(heat * logits), normal(logits), labels


# --- learning curves


def test_learning_curves_hold_a_mean_and_a_band_for_each_strategy():
    results = made_up_results()
    ax = plots.learning_curves(results)
    lines = named_lines(ax)
    assert set(lines) == {"chance", "bald", "batch_bald"} and len(ax.collections) == 3
    curve = results.curve("bald")
    assert_allclose(lines["bald"].get_ydata(), curve.mean(axis=0))
    assert_allclose(lines["bald"].get_xdata(), LABELS)
    _, low, high = metrics.mean_interval(curve)
    band = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert_allclose([band.min(), band.max()], [low.min(), high.max()])
    assert title(ax) == "Mean and 95 % interval of 5 seeds" and ax.get_ylabel() == "test accuracy"
    assert set(words(ax, "end")) == set(lines) and ax.get_legend() is None


def test_curves_are_those_of_arrays_with_quartiles_if_asked_for():
    curves = made_up_curves()
    ax = plots.learning_curves(curves, labels=LABELS, band="quartiles", metric="nll")
    assert_allclose(named_lines(ax)["bald"].get_ydata(), np.percentile(curves["bald"], 50, axis=0))
    band = ax.collections[1].get_paths()[0].vertices[:, 1]
    quarter, three = np.percentile(curves["bald"], [25, 75], axis=0)
    assert_allclose([band.min(), band.max()], [quarter.min(), three.max()])
    assert title(ax) == "Median and quartiles of 5 seeds" and ax.get_ylabel() == "test NLL (nats)"
    one = plots.learning_curves({"mine": np.linspace(0, 1, 20)}, labels=LABELS)
    assert title(one) == "One seed" and not one.collections


def test_results_plot_is_the_same_picture():
    results = made_up_results()
    _, ax = plt.subplots()
    assert results.plot(ax, "nll", target=(0.1, 0.2)) is ax
    assert ax.get_ylabel() == "test NLL (nats)" and len(by_gid(ax, "target")) == 2


@pytest.mark.parametrize(("metric", "level"), [("accuracy", 0.9), ("nll", 0.1)])
def test_rings_and_numbers_are_the_labels_that_the_median_seed_needs(metric, level):
    results = made_up_results()
    ax = plots.learning_curves(results, metric=metric, target=level)
    wanted = {np.sort(v)[2] for v in results.labels_needed(level, metric).values()}
    assert {float(mark.get_xdata()[0]) for mark in by_gid(ax, "needed")} == wanted
    assert set(words(ax, "labels needed")) == {f"{x:.0f}" for x in wanted}
    never = plots.learning_curves(results, metric=metric, target=0.9999 if level > 0.5 else 1e-9)
    assert not by_gid(never, "needed") and any("not reached" in w for w in words(never, "end"))


def test_rings_at_one_place_lie_in_one_another():
    same = {name: np.array([0.5, 0.95]) for name in ("a", "b", "c")}
    ax = plots.learning_curves(same, labels=[10, 20], target=0.9)
    sizes = [mark.get_markersize() for mark in by_gid(ax, "needed")]
    assert len(set(sizes)) == 3
    places = sorted(text.get_position()[0] for text in by_gid(ax, "labels needed"))
    assert np.diff(places).min() > 0


def test_nan_is_left_out():
    curves = made_up_curves()
    curves["bald"][2] = np.nan
    curves["lost"] = np.full((5, 20), np.nan)
    with np.errstate(all="raise"):
        ax = plots.learning_curves(curves, labels=LABELS, target=0.9, band="quartiles")
    assert_allclose(
        named_lines(ax)["bald"].get_ydata(),
        np.percentile(np.delete(curves["bald"], 2, axis=0), 50, axis=0),
    )
    assert "lost" not in words(ax, "end")


def test_bands_of_two_seeds_do_not_squeeze_the_curves():
    curves = {"a": np.array([[0.5, 0.8], [0.7, 0.9]]), "b": np.array([[0.4, 0.85], [0.6, 0.9]])}
    ax = plots.learning_curves(curves, labels=[10, 20], target=0.8)
    low, high = ax.get_ylim()  # the intervals reach from -0.7 to 1.9; the means from 0.5 to 0.875
    assert 0.2 < low < 0.5 and 0.875 < high <= 1.005


@pytest.mark.parametrize("count", [3, 14])
def test_names_at_the_ends_do_not_overlap_and_stay_beside_the_axes(count):
    curves = {f"strategy {i}": np.array([0.5, 0.9 + 0.001 * i]) for i in range(count)}
    ax = plots.learning_curves(curves, labels=[10, 20])
    ax.figure.canvas.draw()
    texts = sorted(by_gid(ax, "end"), key=lambda text: text.xyann[1])
    assert [t.get_text() for t in texts] == list(curves)  # in order of their ends
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in texts]
    assert all(below.y1 <= above.y0 + 2 for below, above in itertools.pairwise(boxes))
    assert max(text.xyann[1] for text in texts) <= 1
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == count


def test_a_tick_is_never_rounded_to_another_number():
    _, ax = plt.subplots()
    ax.set_ylim(0.74, 0.96)
    ax.set_yticks([0.75, 0.775, 0.8, 0.925])
    _style.percent(ax.yaxis)
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["75.0%", "77.5%", "80.0%", "92.5%"]
    ax.set_yticks([0.8, 0.9])
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_yticklabels()] == ["80%", "90%"]


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.5), (0.01, 3.0), (1e-6, 100.0)])
def test_a_logarithmic_axis_has_plain_numbers_that_are_true(low, high):
    _, ax = plt.subplots()
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    _style.logarithmic(ax.yaxis)
    ax.figure.canvas.draw()
    shown = [t for t in ax.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert len(shown) >= 2
    for label in shown:
        assert_allclose(float(label.get_text()), label.get_position()[1], rtol=1e-5)


def test_a_strategy_has_one_color_in_every_picture():
    few, many = _style.looks(["chance", "bald"]), _style.looks(["mine", "bald", "x", "chance"])
    assert few["bald"] == many["bald"] and many["chance"].color == _style.GRAY
    assert _style.looks(["uniform"])["uniform"].color == _style.GRAY


@given(some.lists(some.floats(-5, 5), max_size=12), some.floats(0.01, 1))
def test_apart_keeps_the_order_the_gap_and_the_mean(positions, gap):
    moved = _style.apart(positions, gap)
    order = np.argsort(positions, kind="stable")
    assert (np.diff(moved[order]) >= gap - 1e-9).all()
    if positions:
        assert_allclose(moved.mean(), np.mean(positions), atol=1e-9)
    lower = _style.below(moved, 1.0, gap)
    assert (lower <= 1.0).all() and (np.diff(lower[order]) >= gap - 1e-9).all()


# --- calibration


def test_reliability_tells_ece_and_nll_before_and_after():
    before, after, labels = made_up_predictions()
    ax = plots.reliability(before, labels, after=after)
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(ax.containers) == 2
    for text, log_probs, name in zip(said, (before, after), ("before", "after"), strict=True):
        ece = metrics.ece(log_probs, labels, bins=10, equal_mass=True)
        nll = float(metrics.nll(log_probs, labels))
        assert text == f"{name}: ECE {ece:.3f}, NLL {nll:.3f} nats"
    bins = metrics.reliability(before, labels, bins=10, equal_mass=True)
    assert_allclose(ax.containers[0].lines[0].get_xdata(), bins.confidence)
    assert_allclose(ax.containers[0].lines[0].get_ydata(), bins.accuracy)
    (inset,) = ax.child_axes
    assert sum(bar.get_height() for bar in inset.patches) == 2 * len(labels)


def test_the_bars_are_the_intervals_of_wilson():
    log_probs = jnp.log(jnp.tile(jnp.array([[0.8, 0.2]]), (10, 1)))
    labels = np.array([0] * 5 + [1] * 5)
    ax = plots.reliability(log_probs, labels, bins=1)
    ((low, high),) = [segment[:, 1] for segment in ax.containers[0].lines[2][0].get_segments()]
    assert_allclose([low, high], [0.2366, 0.7634], atol=1e-4)
    low, high = _calibration.wilson([0, 5, 10, 0], [10, 10, 10, 0])
    assert_allclose(low, [0, 0.2366, 0.7225, 0], atol=1e-4)
    assert_allclose(high, [0.2775, 0.7634, 1, 1], atol=1e-4)


def test_risk_coverage_has_a_line_for_each_confidence():
    wrong = np.array([False, True, False, True])
    given = {"good": np.array([0.9, 0.2, 0.8, 0.1]), "bad": np.array([0.1, 0.9, 0.2, 0.8])}
    ax = plots.risk_coverage(given, wrong)
    lines = named_lines(ax)
    assert_allclose(lines["good: area 0.208"].get_ydata(), [0, 0, 1 / 3, 0.5])
    assert_allclose(lines["bad: area 0.792"].get_ydata(), [1, 1, 2 / 3, 0.5])
    assert_allclose(by_gid(ax, "best")[0].get_ydata(), [0, 0, 1 / 3, 0.5])
    assert set(by_gid(ax, "chance")[0].get_ydata()) == {0.5}
    assert ax.get_ylabel() == "share of wrong answers" and ax.get_ylim()[1] > 1
    one = plots.risk_coverage(given["good"], np.array([0.1, 2.0, 0.3, 0.4]))
    assert one.get_ylabel() == "mean loss of the answers" and "area" in title(one)


def test_a_perfect_model_has_no_risk():
    ax = plots.risk_coverage(np.array([0.9, 0.8]), np.array([False, False]))
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 0


def test_calibration_under_shift_is_solid_after_and_dashed_before():
    after = {"point": np.array([[0.1, 0.3], [0.2, 0.5]]), "ensemble": np.array([0.1, 0.2])}
    before = {"point": np.array([[0.2, 0.4], [0.4, 0.6]])}
    ax = plots.calibration_under_shift([0, 30], after, before=before, unit="degrees")
    assert_allclose(named_lines(ax)["point"].get_ydata(), [0.15, 0.4])
    (dashed,) = by_gid(ax, "before")
    assert_allclose(dashed.get_ydata(), [0.3, 0.5])
    assert dashed.get_linestyle() == "--" and named_lines(ax)["point"].get_linestyle() == "-"
    assert dashed.get_color() == named_lines(ax)["point"].get_color()
    assert ax.get_xlabel() == "degrees" and "2 seeds" in title(ax) and "dashed" in title(ax)
    assert ax.get_xticks().tolist() == [0, 30]


# --- uncertainty


def test_uncertainty_parts_split_the_entropy_mark_errors_and_ring_picks():
    before, _, labels = made_up_predictions(n=60)
    log_probs = np.stack([before, np.roll(before, 1, axis=1)])
    picks = bayesal.Selection(np.array([3, 7, -1]), np.zeros(3))
    ax = plots.uncertainty_parts(log_probs, labels=labels, picks=picks)
    wrong = np.exp(log_probs).mean(0).argmax(-1) != labels
    at = {gid: by_gid(ax, gid)[0].get_offsets() for gid in ("right", "wrong", "picked")}
    x, y = scores.expected_entropy(log_probs), scores.bald(log_probs)
    both = np.stack([x, y], axis=1)
    assert_allclose(at["right"], both[~wrong], atol=1e-6)
    assert_allclose(at["wrong"], both[wrong], atol=1e-6)
    assert_allclose(at["picked"], both[[3, 7]], atol=1e-6)
    assert f"wrong: {wrong.mean():.1%}" in title(ax)
    plain = plots.uncertainty_parts(log_probs)
    assert not by_gid(plain, "wrong") and plain.get_legend() is None


def test_a_map_lies_where_its_places_are():
    xs, ys = np.array([0.0, 1.0, 2.0]), np.array([10.0, 20.0])
    values = np.arange(6.0)  # rows of np.meshgrid(xs, ys)
    x, y = np.array([[0.0, 10.0], [2.0, 20.0], [1.0, 15.0]]), np.array([0, 1, 1])
    ax = plots.uncertainty_map(values, xs, ys, labeled=(x, y), ceiling=8.0, name="total (nats)")
    mesh = ax.collections[0]
    assert_allclose(np.asarray(mesh.get_array()).reshape(2, 3), values.reshape(2, 3))
    assert mesh.get_clim() == (0, 8) and title(ax) == "total (nats)"
    corners = mesh.get_coordinates()
    assert_allclose(corners[0, 0], [-0.5, 5]) and assert_allclose(corners[-1, -1], [2.5, 25])
    marks = by_gid(ax, "labeled")
    assert [len(mark.get_offsets()) for mark in marks] == [1, 2]
    assert_allclose(marks[0].get_offsets(), [[0, 10]])


# --- a batch


def test_score_histogram_marks_picks_and_bounds():
    values = np.random.default_rng(0).gamma(1.2, 0.2, 5000).clip(0, 2)
    values[7] = -np.inf  # labeled already
    rows = np.argsort(-values)[:10]
    bounds = {"ln C": 1.1 * values.max(), "ln K": 4.61}
    ax = plots.score_histogram(values, rows, bounds=bounds, name="BALD (nats)")
    assert ax.get_yscale() == "log" and title(ax) == "10 of 4,999 points picked"
    (picks,) = by_gid(ax, "picks")
    assert_allclose(picks.get_xdata(), values[rows])
    assert sum(bar.get_height() for bar in ax.patches) == 4999
    (bound,) = by_gid(ax, "bound")
    assert_allclose(bound.get_xdata(), bounds["ln C"])
    assert words(ax, "far") == ["ln K = 4.61 is off to the right"]


def test_one_score_has_a_histogram():
    ax = plots.score_histogram(np.zeros(3), np.array([0]))
    assert sum(bar.get_height() for bar in ax.patches) == 3


def made_up_images(count):
    rng = np.random.default_rng(count)
    true = rng.integers(0, 10, count)
    predicted = np.where(np.arange(count) % 3 == 0, (true + 1) % 10, true)
    return rng.random((count, 8, 6)), np.sort(rng.random(count))[::-1], true, predicted


@pytest.mark.parametrize("count", [1, 10, 13])
def test_picks_stand_in_order_and_the_wrong_ones_have_red_borders(count):
    images, values, true, predicted = made_up_images(count)
    ax = plots.picked_images(images, labels=true, predicted=predicted, scores=values)
    assert len(ax.images) == count
    for i, (shown, text, frame) in enumerate(
        zip(ax.images, by_gid(ax, "words"), by_gid(ax, "frame"), strict=True)
    ):
        assert_allclose(shown.get_array(), images[i])
        assert text.get_text() == f"{values[i]:.2f}\ntrue {true[i]}\nsays {predicted[i]}"
        red, green, _, _ = frame.get_edgecolor()
        assert (red > 0.7 and green < 0.1) == (true[i] != predicted[i])
    assert words(ax, "rank") == [str(i + 1) for i in range(count)]
    places = [shown.get_extent()[:3:2] for shown in ax.images]
    assert len({y for _, y in places}) == -(-count // 10)  # ten in a row
    assert len(set(map(tuple, places))) == count
    assert title(ax).endswith(f"{int((true != predicted).sum())} predicted wrongly")


def test_images_may_be_in_color_and_classes_have_names():
    images, _, true, _ = made_up_images(4)
    color = (255 * np.repeat(images[..., None], 3, axis=-1)).astype(np.uint8)
    names = [f"class {i}" for i in range(10)]
    ax = plots.picked_images(color, labels=true, names=names, title="Round 3")
    assert ax.images[0].get_array().shape == (8, 6, 3) and title(ax) == "Round 3"
    assert words(ax, "words")[0] == f"true class {true[0]}"
    gray = plots.picked_images(images[..., None])
    assert_allclose(gray.images[2].get_array(), images[2])
    assert {shown.get_clim() for shown in gray.images} == {(images.min(), images.max())}


def test_diversity_is_the_mean_distance_to_the_nearest_pick():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (50, 6)).astype(np.float32)
    batches = {"a": np.arange(5), "b": bayesal.Selection(np.arange(20, 30), np.zeros(10))}
    ax = plots.batch_diversity(features, batches)
    rows = {"a": range(5), "b": range(20, 30)}
    want = {
        name: np.mean(
            [min(np.linalg.norm(features[i] - features[j]) for j in at if j != i) for i in at]
        )
        for name, at in rows.items()
    }
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert said == [f"{name}: {value:.3g}" for name, value in want.items()]
    (pool,) = by_gid(ax, "pool")
    for mark, at in zip(by_gid(ax, "batch"), rows.values(), strict=True):
        assert_allclose(mark.get_offsets(), pool.get_offsets()[list(at)])
    spread = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    assert_allclose(np.var(pool.get_offsets(), axis=0) * 50, spread[:2], rtol=1e-4)


def made_up_explanation(draws=20):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), (draws, 30)).astype(np.float32)
    numbers = pools.numbers(log_probs=np.log(p), axes="K N C")
    return explain(select.top(scores.bald(jnp.log(p)), 8), None, numbers)


def test_batch_information_stands_under_the_sum_and_ln_k():
    why = made_up_explanation()
    ax = plots.batch_information(why, name="BALD")
    lines = named_lines(ax)
    assert_allclose(lines["joint information"].get_ydata(), why.joint)
    assert_allclose(lines["sum of scores"].get_ydata(), np.cumsum(why.epistemic))
    assert set(by_gid(ax, "bound")[0].get_ydata()) == {why.ceiling}
    assert f"ln K = {np.log(20):.2f}" in words(ax, "end")
    assert title(ax) == (
        f"BALD: {why.joint[-1]:.2f} nats together, {why.epistemic.sum():.2f} counted one by one"
    )


def test_a_ceiling_far_above_does_not_squeeze_the_lines():
    why = made_up_explanation()
    ax = plots.batch_information(why._replace(ceiling=100.0))
    assert not by_gid(ax, "bound") and ax.get_ylim()[1] < 2 * why.epistemic.sum()
    assert words(ax, "far") == ["ln K = 100.00 is above"]


# --- rounds


def test_hyperparameters_are_multiples_of_the_first_fit():
    results = made_up_results()
    ax = plots.hyperparameters(results, "bald")
    lines = named_lines(ax)
    assert set(lines) == {"learning rate", "dropout", "steps", "temperature"}  # the others stayed
    steps = np.median(results.hparams["bald"]["steps"], axis=0)
    assert_allclose(lines["steps"].get_ydata(), steps / steps[0])
    assert 3 not in lines["dropout"].get_xdata()  # zero has no place on a log axis
    assert f"steps {steps[-1]:.0f}" in words(ax, "end") and ax.get_yscale() == "log"
    assert title(ax) == "bald: median and quartiles of 5 seeds"
    one = plots.hyperparameters(results, "bald", fields=("prior_scale",))
    assert set(named_lines(one)) == {"prior scale"}


def made_up_history():
    rng = np.random.default_rng(0)
    rounds = np.repeat(np.arange(5), 4)
    columns = {
        "round": rounds,
        "learning_rate": 10 ** rng.uniform(-3, -2, 20),
        "warmup": rng.uniform(0, 0.2, 20),
        "loss": rng.uniform(1, 2, 20),
        "difference": np.where(rounds == 3, np.inf, rng.normal(size=20)),
        "error": np.ones(20),
        "folds": np.full(20, 3),
        "chosen": np.arange(20) % 4 == 1,
    }
    columns["loss"][rounds == 3] = np.inf
    return columns


def test_the_history_shows_candidates_those_kept_and_those_that_diverged():
    columns = made_up_history()
    ax = plots.retuner_history(columns, "learning_rate")
    (dots,) = by_gid(ax, "candidates")
    assert len(dots.get_offsets()) == 16 and len(by_gid(ax, "diverged")[0].get_xdata()) == 4
    fine = columns["round"] != 3
    assert_allclose(dots.get_offsets()[:, 1], columns["learning_rate"][fine])
    # the darkest is the best
    assert dots.get_array().argmax() == columns["difference"][fine].argmin()
    kept = fine & columns["chosen"]
    assert_allclose(named_lines(ax)["kept"].get_ydata(), columns["learning_rate"][kept])
    assert title(ax) == "20 candidates in 5 rounds"
    said = {text.get_text() for text in ax.get_legend().get_texts()}
    assert said == {"candidate (darker: better)", "kept", "diverged"}
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "learning rate"
    loss = plots.retuner_history(columns)
    assert loss.get_ylabel() == "out-of-fold NLL (nats)"
    assert plots.retuner_history(columns, "warmup").get_yscale() == "linear"


# --- all of them

CURVES, HISTORY = made_up_curves(), made_up_history()
LOG_PROBS = np.log(np.full((3, 5, 2), 0.5, np.float32))
PICTURES = {
    "learning_curves": lambda **k: plots.learning_curves(CURVES, labels=LABELS, target=0.9, **k),
    "reliability": lambda **k: plots.reliability(LOG_PROBS[0], np.array([0, 1, 1, 0, 1]), **k),
    "risk_coverage": lambda **k: plots.risk_coverage(np.arange(4.0), np.arange(4.0), **k),
    "calibration_under_shift": lambda **k: plots.calibration_under_shift(LABELS, CURVES, **k),
    "uncertainty_parts": lambda **k: plots.uncertainty_parts(LOG_PROBS, **k),
    "uncertainty_map": lambda **k: plots.uncertainty_map(
        np.ones(6), np.arange(3.0), np.arange(2.0), **k
    ),
    "score_histogram": lambda **k: plots.score_histogram(np.arange(9.0), np.array([8]), **k),
    "picked_images": lambda **k: plots.picked_images(np.ones((2, 3, 3)), **k),
    "batch_diversity": lambda **k: plots.batch_diversity(
        np.random.default_rng(0).normal(size=(9, 2)), np.array([8, 1]), **k
    ),
    "batch_information": lambda **k: plots.batch_information(made_up_explanation(), **k),
    "hyperparameters": lambda **k: plots.hyperparameters(made_up_results(), "bald", **k),
    "retuner_history": lambda **k: plots.retuner_history(HISTORY, **k),
}


def test_every_picture_is_in_the_list():
    assert set(PICTURES) == set(plots.__all__)


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_drawn_where_asked_says_what_it_shows_and_can_be_saved(picture, tmp_path):
    _, ax = plt.subplots()
    assert picture(ax=ax) is ax and title(ax)
    assert picture().figure is not ax.figure
    ax.figure.savefig(tmp_path / "a.png")
    with pytest.raises(errors.WrongType, match="`ax` must be one matplotlib Axes"):
        picture(ax=plt.subplots(1, 2)[1])


BAD = {
    "no curves": ("curves", lambda: plots.learning_curves({}, labels=LABELS)),
    "no labels": ("labels", lambda: plots.learning_curves(CURVES)),
    "other labels": ("curves", lambda: plots.learning_curves(CURVES, labels=LABELS[1:])),
    "a table": ("curves", lambda: plots.learning_curves(np.ones(3), labels=LABELS)),
    "no such band": ("band", lambda: plots.learning_curves(CURVES, labels=LABELS, band="std")),
    "no number": ("target", lambda: plots.learning_curves(CURVES, labels=LABELS, target=np.nan)),
    "no metric": ("metric", lambda: plots.learning_curves(made_up_results(), metric="f2")),
    "raw": ("log_probs", lambda: plots.reliability(np.ones((3, 2)), np.zeros(3, int))),
    "few after": (
        "after",
        lambda: plots.reliability(LOG_PROBS[0], np.zeros(5, int), after=LOG_PROBS[0, 1:]),
    ),
    "few losses": ("loss", lambda: plots.risk_coverage(np.ones(3), np.ones(2))),
    "no confidence": ("confidence", lambda: plots.risk_coverage({}, np.ones(2))),
    "no methods": ("after", lambda: plots.calibration_under_shift([0, 1], {})),
    "unknown before": (
        "before",
        lambda: plots.calibration_under_shift([0], {"a": [1.0]}, before={"b": [1.0]}),
    ),
    "short before": ("after", lambda: plots.calibration_under_shift([0, 1], {"a": [1.0]})),
    "one draw": ("log_probs", lambda: plots.uncertainty_parts(LOG_PROBS[0])),
    "no such row": ("picks", lambda: plots.uncertainty_parts(LOG_PROBS, picks=np.array([5]))),
    "map": ("values", lambda: plots.uncertainty_map(np.ones(5), np.ones(3), np.ones(2))),
    "map of NaN": (
        "values",
        lambda: plots.uncertainty_map(np.full(2, np.nan), np.arange(2.0), np.ones(1)),
    ),
    "ceiling": (
        "ceiling",
        lambda: plots.uncertainty_map(np.ones(2), np.arange(2.0), np.ones(1), ceiling=0.0),
    ),
    "points": (
        "labeled",
        lambda: plots.uncertainty_map(
            np.ones(2), np.arange(2.0), np.ones(1), labeled=(np.ones((1, 3)), np.zeros(1, int))
        ),
    ),
    "scores": ("scores", lambda: plots.score_histogram(np.ones((2, 2)), np.array([0]))),
    "no scores": ("scores", lambda: plots.score_histogram(np.full(2, np.nan), np.array([0]))),
    "picks": ("picks", lambda: plots.score_histogram(np.ones(2), np.array([0.5]))),
    "flat images": ("images", lambda: plots.picked_images(np.ones((2, 64)))),
    "no images": ("images", lambda: plots.picked_images(np.ones((0, 8, 8)))),
    "labels": ("labels", lambda: plots.picked_images(np.ones((2, 8, 8)), labels=[1])),
    "one pick": ("batches", lambda: plots.batch_diversity(np.eye(3), np.array([0]))),
    "a selection": (
        "explanation",
        lambda: plots.batch_information(bayesal.Selection(np.zeros(1, int), np.ones(1))),
    ),
    "records": ("results", lambda: plots.hyperparameters({}, "bald")),
    "nobody": ("strategy", lambda: plots.hyperparameters(made_up_results(), "nobody")),
    "no field": (
        "fields",
        lambda: plots.hyperparameters(made_up_results(), "bald", fields=("lr",)),
    ),
    "constant": (
        "fields",
        lambda: plots.hyperparameters(
            made_up_results(hparams={"bald": {"steps": np.ones((5, 20))}}, curves={"bald": {}}),
            "bald",
        ),
    ),
    "no table": ("table", lambda: plots.retuner_history({"round": np.zeros(1)})),
    "empty": ("table", lambda: plots.retuner_history({k: v[:0] for k, v in HISTORY.items()})),
    "no column": ("field", lambda: plots.retuner_history(HISTORY, "folds")),
}


@pytest.mark.parametrize(("argument", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(argument, call):
    with pytest.raises(errors.BayesalError, match=f"`{argument}") as error:
        as_users_do(call)()
    assert error.value.argument == argument
    assert not plt.get_fignums()  # checked before a figure is made
