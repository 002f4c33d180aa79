"""The experiments' pictures show what they are for: bands over seeds, picks, bounds, and the
numbers in the titles.
"""

import itertools

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from bayesal import metrics
from experiments import pictures


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def by_gid(ax, gid):
    return [artist for artist in ax.findobj() if artist.get_gid() == gid]


def made_up_records(strategies=("uniform", "bald", "batchbald"), seeds=5, rounds=20):
    rng = np.random.default_rng(0)
    records = []
    for rate, strategy in zip((55, 40, 30), strategies, strict=False):
        for seed in range(seeds):
            shift = rng.normal(0, 0.01)
            for r in range(rounds):
                labels = 20 + 10 * r
                accuracy = float(
                    np.clip(
                        0.97 - 0.55 * np.exp(-(labels - 20) / rate) + shift + rng.normal(0, 0.004),
                        0,
                        1,
                    )
                )
                hparams = {
                    "learning_rate": 10 ** rng.normal(-2.5, 0.2),
                    "weight_decay": 10 ** rng.normal(-4, 0.4),
                    "dropout": 0.0 if r == 3 else float(rng.uniform(0.2, 0.6)),
                    "prior_scale": 1.0,
                    "steps": int(200 + 30 * r + rng.integers(60)),
                }
                records.append(
                    {
                        "strategy": strategy,
                        "seed": seed,
                        "round": r,
                        "labels": labels,
                        "accuracy": accuracy,
                        "nll": 0.3,
                        "nll_before": 0.5,
                        "ece": 0.02,
                        "ece_before": 0.1,
                        "temperature": float(1.6 - 0.02 * r + rng.normal(0, 0.05)),
                        "hparams": hparams,
                    }
                )
    return records


def made_up_predictions(n=1500, classes=10, heat=2.2):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.6, (n, classes))
    labels = np.array([rng.choice(classes, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    normal = lambda z: (z - np.log(np.exp(z).sum(axis=1, keepdims=True))).astype(np.float32)
    return normal(heat * logits), normal(logits), labels


def test_learning_curves_hold_a_median_and_a_band_for_each_strategy():
    records = made_up_records()
    ax = pictures.plot_learning_curves(
        records, references={"paper": ([20, 100, 250], [0.4, 0.9, 0.95]), "all labels": 0.99}
    )
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"uniform", "bald", "batchbald"}
    assert len(ax.collections) == 3  # bands
    first = [r["accuracy"] for r in records if r["strategy"] == "bald" and r["round"] == 0]
    assert lines["bald"].get_ydata()[0] == pytest.approx(np.median(first))
    assert lines["uniform"].get_color() == pictures.GRAY
    assert lines["bald"].get_color() != lines["batchbald"].get_color()
    assert ax.get_legend() is None
    assert {text.get_text() for text in by_gid(ax, "end")} == {
        "uniform",
        "bald",
        "batchbald",
        "paper",
        "all labels",
    }
    assert "5 seeds" in ax.get_title(loc="left")


def test_labels_needed_stand_on_the_dotted_target():
    records = made_up_records()
    ax = pictures.plot_learning_curves(records, level=0.9)
    assert len(by_gid(ax, "target")) == 1
    marks = {float(mark.get_xdata()[0]) for mark in by_gid(ax, "needed")}
    assert marks == {
        pictures.needed([r for r in records if r["strategy"] == s], 0.9)
        for s in ("uniform", "bald", "batchbald")
    }
    assert {text.get_text() for text in by_gid(ax, "labels needed")} == {f"{x:.0f}" for x in marks}
    never = pictures.plot_learning_curves(records, level=(0.999,))
    assert by_gid(never, "needed") == []


def test_needed_is_the_median_over_seeds_and_inf_when_half_never_arrive():
    run = lambda seed, values: [
        {"seed": seed, "labels": 10 * (i + 1), "accuracy": v} for i, v in enumerate(values)
    ]
    assert pictures.needed(run(0, [0.5, 0.9]) + run(1, [0.9, 0.9]) + run(2, [0.1, 0.2]), 0.9) == 20
    assert pictures.needed(run(0, [0.9, 0.9]) + run(1, [0.1, 0.2]), 0.9) == np.inf


def test_end_labels_do_not_overlap():
    moved = pictures.apart([0.5, 0.51, 0.1, 0.5], 0.05)
    assert np.diff(np.sort(moved)).min() >= 0.05 - 1e-12
    assert moved[2] == 0.1
    assert np.mean(moved) == pytest.approx(np.mean([0.5, 0.51, 0.1, 0.5]))
    ax = pictures.plot_learning_curves(made_up_records())
    ax.figure.canvas.draw()
    boxes = sorted(
        (matplotlib.text.Text.get_window_extent(text) for text in by_gid(ax, "end")),
        key=lambda box: box.y0,
    )
    assert all(below.y1 <= above.y0 + 2 for below, above in itertools.pairwise(boxes))


def test_reliability_tells_ece_and_nll_before_and_after():
    before, after, labels = made_up_predictions()
    figure = pictures.plot_reliability(before, after, labels)
    left, right = figure.axes[:2]
    for ax, log_probs, name in ((left, before, "Before"), (right, after, "After")):
        title = ax.get_title(loc="left")
        assert title.startswith(name)
        assert f"ECE {metrics.ece(log_probs, labels, bins=10, equal_mass=True):.3f}" in title
        assert f"NLL {float(metrics.nll(log_probs, labels)):.3f}" in title
        assert len(ax.containers[0].lines[0].get_xdata()) == 10  # equal mass: no bin is empty
        (inset,) = ax.child_axes
        assert sum(bar.get_height() for bar in inset.patches) == len(labels)


def test_wilson_agrees_with_its_published_values():
    low, high = pictures.wilson([0, 5, 10, 0], [10, 10, 10, 0])
    np.testing.assert_allclose(low, [0, 0.2366, 0.7225, 0], atol=1e-4)
    np.testing.assert_allclose(high, [0.2775, 0.7634, 1, 1], atol=1e-4)


def test_score_histogram_marks_picks_and_bounds():
    scores = np.random.default_rng(0).gamma(1.2, 0.2, 5000).clip(0, 2)
    scores[7] = -np.inf  # labeled already
    rows = np.argsort(-scores)[:10]
    ax = pictures.plot_score_histogram(
        scores, rows, bounds={"ln C": np.log(10), "ln K": np.log(100)}
    )
    assert ax.get_yscale() == "log"
    (picks,) = by_gid(ax, "picks")
    np.testing.assert_allclose(picks.get_xdata(), scores[rows])
    assert sum(bar.get_height() for bar in ax.patches) == 4999
    near = [
        name for name, x in (("ln C", np.log(10)), ("ln K", np.log(100))) if x <= 1.3 * scores.max()
    ]
    assert len(by_gid(ax, "bound")) == len(near) == 1
    assert any(text.get_text() == "ln C = 2.30" for text in ax.texts)
    assert "ln K = 4.61" in by_gid(ax, "far")[0].get_text()


def made_up_picks(seed, count):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 10, count)
    predicted = np.where(np.arange(count) % 3 == 0, (true + 1) % 10, true)
    return rng.random((count, 8, 8)), np.sort(rng.random(count))[::-1], true, predicted


def test_picks_stand_in_rows_and_the_wrong_ones_have_red_borders():
    rows = {"BALD": made_up_picks(0, 6), "BatchBALD": made_up_picks(1, 5)}
    figure = pictures.plot_picks(rows, title="Round 3")
    assert figure.get_suptitle() == "Round 3"
    grid = np.array(figure.axes).reshape(2, 6)
    assert [line[0].get_ylabel() for line in grid] == ["BALD", "BatchBALD"]
    for line, (images, scores, true, predicted) in zip(grid, rows.values(), strict=True):
        for i in range(len(images)):
            assert (
                line[i].get_xlabel()
                == f"score {scores[i]:.2f}\ntrue {true[i]}\nsays {predicted[i]}"
            )
            assert line[i].get_title() == str(i + 1)
            red, green, _, _ = line[i].spines["left"].get_edgecolor()
            assert (red > 0.7 and green < 0.1) == (true[i] != predicted[i])
    assert not grid[1, 5].axison


def test_picks_take_one_row_and_class_names():
    images, scores, true, predicted = made_up_picks(0, 4)
    names = [f"class {i}" for i in range(10)]
    figure = pictures.plot_picks(
        images, scores, true, predicted, title="t", names=names, row_titles=["BALD"]
    )
    assert f"true class {true[0]}" in figure.axes[0].get_xlabel()
    assert figure.axes[0].get_ylabel() == "BALD"
    with pytest.raises(ValueError, match="row_titles"):
        pictures.plot_picks(images, scores, true, predicted, row_titles=["a", "b"])


def test_hparams_show_the_median_of_each_round():
    records = made_up_records()
    figure = pictures.plot_hparams(records, strategy="bald")
    log, steps, warm = figure.axes
    assert log.get_yscale() == "log" and steps.get_yscale() == "linear"
    lines = {line.get_label(): line for ax in figure.axes for line in ax.lines}
    assert {"learning rate", "weight decay", "dropout", "steps", "temperature"} <= set(lines)
    chosen = [r["hparams"]["steps"] for r in records if r["strategy"] == "bald" and r["round"] == 4]
    assert lines["steps"].get_ydata()[4] == np.median(chosen)
    assert 3 not in lines["dropout"].get_xdata()  # zero has no place on a log axis
    assert lines["temperature"] in warm.lines
    with pytest.raises(ValueError, match="bald"):
        pictures.plot_hparams(records, strategy="nobody")


def test_the_history_shows_what_varied_and_what_was_kept():
    rng = np.random.default_rng(0)
    rounds = np.repeat(np.arange(5), 4)
    columns = {
        "round": rounds,
        "learning_rate": 10 ** rng.uniform(-3, -2, 20),
        "warmup": rng.uniform(0, 0.2, 20),
        "prior_scale": np.ones(20),
        "loss": rng.uniform(1, 2, 20),
        "difference": np.where(rounds == 3, np.inf, rng.normal(size=20)),
        "error": np.ones(20),
        "folds": np.full(20, 3),
        "chosen": np.arange(20) % 4 == 1,
    }
    columns["loss"][rounds == 3] = np.inf
    figure = pictures.plot_history(columns)
    assert [ax.get_ylabel() for ax in figure.axes] == ["learning rate", "warmup", "out-of-fold NLL"]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear", "log"]
    rate = figure.axes[0]
    assert (
        len(rate.collections[0].get_offsets()) == 20
        and len(figure.axes[2].collections[0].get_offsets()) == 16
    )
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), columns["learning_rate"][1::4])
    with pytest.raises(ValueError, match="empty"):
        pictures.plot_history({name: values[:0] for name, values in columns.items()})


def test_batch_information_stands_under_the_sum_and_ln_k():
    total, log_k = np.cumsum(np.full(10, 0.8)), np.log(100)
    joint = log_k * (1 - np.exp(-total / log_k))
    ax = pictures.plot_batch_information(joint, total, log_k)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["joint information"].get_ydata(), joint)
    np.testing.assert_allclose(lines["sum of BALDs"].get_ydata(), total)
    assert set(by_gid(ax, "bound")[0].get_ydata()) == {log_k}
    assert f"{total[-1] - joint[-1]:.2f}" in ax.get_title(loc="left")


def test_a_picture_is_drawn_where_asked_and_saved(tmp_path):
    _, ax = plt.subplots()
    assert pictures.plot_score_histogram(np.linspace(0, 1, 50), [49], ax=ax) is ax
    figure = pictures.plot_picks(*made_up_picks(0, 2), title="t")
    for name, picture in (("a.png", ax), ("deep/b.png", figure)):
        assert pictures.save(picture, tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_panels_have_one_line_per_strategy_and_their_axes():
    records = [
        {"strategy": s, "seed": seed, "labels": n, "error": 1.0 / n, "seconds": 0.1 * n}
        for s in ("fresh", "online")
        for seed in range(2)
        for n in (10, 20)
    ]
    figure = pictures.plot_panels(
        records, {"error": "test RMSE", "seconds": "seconds"}, logarithmic=("seconds",)
    )
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["fresh", "online"] and (
        left.get_yscale(),
        right.get_yscale(),
    ) == ("linear", "log")
    np.testing.assert_allclose(right.lines[0].get_ydata(), [1.0, 2.0])
    with pytest.raises(ValueError, match="empty"):
        pictures.plot_panels([], {"error": "x"})
