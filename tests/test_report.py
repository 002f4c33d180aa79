"""`report.html`: what it says of known differences, and that no name can become markup."""

import base64
import html.parser
import json
import re
import subprocess
import sys
import warnings
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

import bayesal
from bayesal import acquire, errors, networks, posteriors, scores
from bayesal._report import _html, _picks, _verdict, _words

SCRIPT = "<script>alert('x')</script>"
VOID = ("meta", "img", "source")


def made_up(curves, labels=(10, 20, 30, 40), metric="accuracy", failed=(), more=None):
    """Results of known curves `[S, R + 1]` by strategy; further metrics are given likewise."""
    tables = {metric: curves} | (more or {})
    tables = {m: {k: np.asarray(v, float) for k, v in t.items()} for m, t in tables.items()}
    count, fits = next(iter(tables[metric].values())).shape
    picks = np.arange(count * (fits - 1) * 2).reshape(count, fits - 1, 2)
    return bayesal.Results(
        strategies=tuple(curves),
        seeds=tuple(range(count)),
        labels=np.array(labels),
        curves={name: {m: t[name] for m, t in tables.items()} for name in curves},
        picks={name: picks for name in curves},
        first=np.zeros((count, 10), int),
        hparams={name: {} for name in curves},
        seconds={name: {} for name in curves},
        failed={job: "round 0: ValueError: it broke" for job in failed},
        config={"size": 10},
    )


def reaching(fits):
    """A curve that reaches 90 % at one of its four fits; 4: never."""
    return [0.9 if fit >= fits else 0.5 for fit in range(4)]


def said(results, *targets):
    return _verdict.verdict(results, results.metrics[0], targets)


class Page(html.parser.HTMLParser):
    """A page as elements in order, whose tags are all closed in order, and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.words.append(text)

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def page(results, path, **more):
    assert results.report(path, **more) == path
    return Page(path.read_text(encoding="utf-8"))


# --- what is said


def test_labels_saved_are_those_by_hand():
    """Chance needs 40, 40, 30; ours 20, 10, 20: 20, 30 and 10 fewer, so 20 +- 4.303 * 10 / sqrt(3)
    by Student's t of 2 degrees of freedom.
    """
    results = made_up(
        {
            "chance": [reaching(3), reaching(3), reaching(2)],
            "ours": [reaching(1), reaching(0), reaching(1)],
        }
    )
    found = said(results, 0.9).findings[0]
    assert (found.strategy, found.status, found.gain) == ("ours", "open", 20.0)
    assert found.text.replace("\u00a0", " ") == (
        "ours needed 20 fewer labels to 90 % accuracy than chance (95 % interval −4.8 to 45, "
        "3 seeds): not settled."
    )


def test_a_settled_difference_is_the_headline_and_its_reverse_is_not():
    slow, fast = [3, 3, 3, 3, 2, 3, 3, 3], [1, 1, 0, 1, 0, 1, 1, 1]
    curves = {"chance": list(map(reaching, slow)), "ours": list(map(reaching, fast))}
    headline = said(made_up(curves), 0.9).headline
    assert headline.startswith("ours needed 21 fewer labels") and "not settled" not in headline
    turned = {"chance": curves["ours"], "ours": curves["chance"]}
    found = said(made_up(turned), 0.9)
    assert {f.status for f in found.findings} == {"worse"}
    assert found.headline.startswith("No strategy beat chance. ours needed 21 more labels")


def test_a_level_that_is_not_always_reached_is_counted_and_has_no_interval():
    curves = {
        "chance": [reaching(4), reaching(3), reaching(4)],
        "ours": [reaching(1), reaching(2), reaching(1)],
    }
    found = said(made_up(curves), 0.9)
    assert found.findings[0].status == "no interval"
    assert found.findings[0].text.replace("\u00a0", " ") == (
        "ours reached 90 % accuracy within 40 labels in 3 of 3 seeds (median 20 labels), and "
        "chance in 1 of 3 seeds."
    )
    assert any("no difference in labels" in note for note in found.notes)
    never = said(made_up({name: [reaching(4)] * 3 for name in ("chance", "ours")}), 0.9)
    assert never.findings[0].text.startswith("Neither ours nor chance reached")


def test_one_seed_settles_nothing():
    found = said(made_up({"chance": [reaching(3)], "ours": [reaching(1)]}), 0.9)
    assert [f.status for f in found.findings] == ["one seed", "one seed"]
    assert "20 fewer labels" in found.findings[0].text
    assert found.headline.startswith("Nothing is settled: one seed")


def test_seeds_that_all_gain_the_same_have_no_interval():
    found = said(made_up({"chance": [reaching(3)] * 2, "ours": [reaching(1)] * 2}), 0.9)
    assert [f.status for f in found.findings] == ["no interval", "no interval"]
    assert found.findings[0].text.endswith("in each of 2 seeds.")
    assert found.headline.startswith("Nothing is settled")


def test_a_loss_is_better_where_it_is_lower():
    low = np.array([[2.0, 0.5, 0.4], [2.0, 0.6, 0.4], [2.0, 0.4, 0.3]])
    high = low + np.array([0.0, 1.0, 1.0])
    results = made_up({"chance": high, "ours": low}, (10, 20, 30), metric="nll")
    curve = said(results).findings[0]
    assert curve.gain == pytest.approx(0.75)  # the first point is shared: (0 + 2 + 1) / 4
    assert "0.750 nats better than chance in NLL" in curve.text
    assert _words.level(0.5, "nll").replace("\u00a0", " ") == "NLL 0.5 nats"


def test_failed_runs_are_left_out_and_named():
    gone = [np.nan] * 4
    curves = {
        "chance": [reaching(3), reaching(3), reaching(2)],
        "ours": [gone, reaching(1), reaching(1)],
        "none": [gone] * 3,
    }
    failed = [("ours", 0), *(("none", seed) for seed in range(3))]
    found = said(made_up(curves, failed=failed), 0.9)
    assert "15 fewer labels" in found.findings[0].text and "2 seeds" in found.findings[0].text
    assert {f.status for f in found.findings if f.strategy == "none"} == {"no run"}
    assert found.notes[0].startswith("4 of 9 runs failed or did not finish and are left out: ours")


def test_nothing_to_compare():
    assert "nothing to compare" in said(made_up({"chance": [reaching(1)]}), 0.9).headline
    assert "Chance did not run" in said(made_up({"ours": [reaching(1)]}), 0.9).headline


def test_the_usual_level_is_what_the_weakest_run_reached():
    curves = [np.array([[0.5, 0.873], [0.5, 0.9]]), np.array([[0.6, 0.95], [np.nan, np.nan]])]
    assert _words.usual_level(curves, "accuracy") == 0.87
    assert _words.usual_level([np.array([[2.0, 0.3121], [2.0, 0.2]])], "nll") == 0.32
    assert _words.usual_level([np.array([[0.9, 0.8]])], "accuracy") is None  # at the start already
    assert _words.usual_level([np.full((1, 2), np.nan)], "accuracy") is None


# --- the file


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    rng = np.random.default_rng(0)
    curves = {name: rng.uniform(0.5, 0.9, (3, 4)) for name in ("chance", "ours")}
    more = {m: {n: rng.uniform(0.1, 1, (3, 4)) for n in curves} for m in ("nll", "nll_before")}
    found = page(made_up(curves, more=more), tmp_path / "a.html", target=(0.6, 0.99))
    source = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?:", source) and "@import" not in source
    policy = next(m for m in found.all("meta") if m.get("http-equiv"))["content"]
    assert policy.startswith("default-src 'none'")
    assert not {tag for tag, _ in found.elements} & {"script", "link", "iframe", "object", "form"}
    assert found.all("html")[0]["lang"] == "en" and len(found.all("h1")) == 1
    pictures = [*found.all("img"), *({"src": s["srcset"]} for s in found.all("source"))]
    assert pictures and all(image["src"].startswith("data:image/") for image in pictures)
    assert all(image.get("alt") for image in found.all("img"))
    assert all(head.get("scope") in ("row", "col") for head in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table")) >= 5
    places = [a["id"] for _, a in found.elements if "id" in a]
    assert len(places) == len(set(places))
    assert {a["href"].removeprefix("#") for a in found.all("a")} <= set(places)
    assert [n for n in ("Verdict", "Calibration", "Picks", "Set-up") if n not in found.text] == []
    assert "NLL before" in found.text and len(source) < 1_000_000


def test_names_are_text_everywhere(tmp_path):
    names = ("chance", SCRIPT, "$x_{1}$ & 5 % of $\\frac{1", 'long "' + "y" * 60)
    rng = np.random.default_rng(0)
    results = made_up({name: rng.uniform(0.5, 0.9, (3, 4)) for name in names}, failed=[(SCRIPT, 1)])
    found = page(results, tmp_path / "a.html", title=SCRIPT, target=0.6)
    assert "script" not in {tag for tag, _ in found.elements}
    assert found.text.count(SCRIPT) > 5 and all(name in found.text for name in names)
    drawings = [image["src"] for image in found.all("img") if "svg" in image["src"]]
    drawn = base64.b64decode(drawings[0].partition("base64,")[2]).decode()
    assert "<script" not in drawn and "&lt;script&gt;" in drawn


def picked(pool, labels):
    results = made_up({name: [reaching(1), reaching(2)] for name in ("chance", "ours")})
    return Page(_picks.section(results, pool, labels).text)


def test_pictures_of_images_and_of_rows():
    ramp = np.linspace(0, 1, 8)
    images = np.random.default_rng(0).uniform(0.5, 1, (12, 1, 1)) * ramp[:, None] * ramp
    labels = np.arange(12) % 3
    for pool in (images, images.reshape(12, 64), jnp.asarray(images[..., None])):
        shown = picked(pool, labels).all("img")
        assert len(shown) == 8 and shown[1]["alt"] == "row 1, label 1"
    noise = np.random.default_rng(0).uniform(size=(12, 64))  # such as an embedding
    found = picked(noise, labels)
    assert "0 (0), 1 (1)" in found.text and not found.all("img")
    assert "0 (0.5)" in picked(None, np.full(12, 0.5)).text
    assert "0 (cat)" in picked(None, ["cat"] * 12).text
    assert "0, 1" in picked(lambda: iter([]), None).text  # not walked for a picture
    with pytest.raises(errors.WrongShape, match="`pool` has 2 rows"):
        picked(images[:2], labels)
    with pytest.raises(errors.WrongShape, match="`labels` has 2 rows"):
        picked(None, labels[:2])


def test_large_images_become_small():
    color = np.zeros((6, 200, 100, 3), np.uint8)
    color[:, :100] = 200
    small = _picks._bytes(_picks.as_images(color))
    assert small.shape == (6, 50, 25, 3)
    assert (small[:, :25] == 200).all() and (small[:, 25:] == 0).all()
    assert _picks.as_images(np.zeros((2, 3, 32, 32))).shape == (2, 32, 32, 3)
    assert _picks.as_images(np.zeros((2, 5, 5, 5))) is None


@pytest.mark.parametrize("shape", [(3, 2), (2, 4, 3)])
def test_a_png_holds_its_pixels(shape):
    """Read back by the file format: a header, and lines that each begin with a filter of 0."""
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    content = _html.png(image)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, color = (
        int.from_bytes(content[16:20]),
        int.from_bytes(content[20:24]),
        *content[24:26],
    )
    assert (height, width, depth, color) == (*shape[:2], 8, 2 if len(shape) == 3 else 0)
    at = content.index(b"IDAT")
    size = int.from_bytes(content[at - 4 : at])
    assert int.from_bytes(content[at + 4 + size : at + 8 + size]) == zlib.crc32(
        content[at : at + 4 + size]
    )
    lines = np.frombuffer(zlib.decompress(content[at + 4 : at + 4 + size]), np.uint8)
    lines = lines.reshape(height, -1)
    assert (lines[:, 0] == 0).all() and np.array_equal(lines[:, 1:].reshape(shape), image)


def test_pictures_of_ones_own(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1])
    results = made_up({name: [reaching(1), reaching(2)] for name in ("chance", "ours")})
    found = page(results, tmp_path / "a.html", pictures={"A line": figure})
    assert found.all("img")[-1]["alt"] == "A line" and "More pictures" in found.text


def test_values_that_are_no_numbers(tmp_path):
    """A loss may be infinite, a figure of one's own NaN, and every run may have failed."""
    rng = np.random.default_rng(0)
    curves = {f"rule {i}": rng.uniform(0.5, 2, (3, 4)) for i in range(11)} | {
        "chance": rng.uniform(0.5, 2, (3, 4))
    }
    curves["rule 0"][1, 2] = np.inf
    more = {"mine": {name: np.full((3, 4), np.nan) for name in curves}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = page(made_up(curves, metric="nll", more=more), tmp_path / "a.html")
    assert "Over the whole curve, rule 10 was" in found.text and "Mine" in found.text
    gone = made_up({name: np.full((2, 4), np.nan) for name in ("chance", "ours")})
    assert "no strategy shares a finished seed" in page(gone, tmp_path / "a.html").text


def test_wrong_arguments_are_named(tmp_path):
    results = made_up({name: [reaching(1), reaching(2)] for name in ("chance", "ours")})
    with pytest.raises(errors.UnknownName, match="metric"):
        results.report(tmp_path / "a.html", metric="nothing")
    with pytest.raises(errors.OutOfRange, match="target"):
        results.report(tmp_path / "a.html", target=np.nan)
    with pytest.raises(errors.BadPath):
        results.report(tmp_path / "missing" / "a.html")


# --- with a simulation


X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(int)
POSTERIOR = posteriors.point(networks.mlp(2, 2, (4,)))
MARGIN = {"margin": acquire.top(scores.margin)}


def simulated(strategies=MARGIN, **more):
    usual = dict(
        posterior=POSTERIOR,
        seeds=2,
        rounds=2,
        size=3,
        first=8,
        hparams=bayesal.HParams(steps=5),
        progress=False,
        threads=1,
    )
    return bayesal.simulate(strategies, X, Y, **(usual | more))


def same(a, b):
    assert (a.strategies, a.seeds, a.failed, a.config) == (
        b.strategies,
        b.seeds,
        b.failed,
        b.config,
    )
    assert np.array_equal(a.labels, b.labels) and np.array_equal(a.first, b.first)
    for name in a.strategies:
        assert np.array_equal(a.picks[name], b.picks[name])
        for part in ("curves", "hparams", "seconds"):
            one, other = getattr(a, part)[name], getattr(b, part)[name]
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)


def test_a_folder_has_a_report_and_is_read_back(tmp_path):
    def fail(record, state, selection):
        if (record["strategy"], record["seed"], record["round"]) == ("margin", 1, 1):
            raise RuntimeError("no <b>luck</b>")

    with pytest.warns(UserWarning, match="1 of 4 runs failed"):
        first = simulated(folder=tmp_path, keep=fail)
    same(first, bayesal.Results.read(tmp_path))
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "round 1: RuntimeError: no <b>luck</b>" in found.text and "mc_dropout" not in found.text
    assert "top(margin)" in found.text and bayesal.__version__ in found.text
    # resumed and extended: the report is of all that the folder holds
    simulated(folder=tmp_path)
    added = simulated({"entropy": acquire.top(scores.entropy)}, folder=tmp_path)
    assert added.strategies == ("chance", "entropy")
    whole = bayesal.Results.read(tmp_path)
    assert whole.strategies == ("chance", "margin", "entropy") and not whole.failed
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Missing runs" not in found.text and "3 strategies" in found.text
    (tmp_path / "runs" / "entropy-1.npz").unlink()  # as an interrupted call leaves it
    assert bayesal.Results.read(tmp_path).failed == {("entropy", 1): "not finished"}


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(errors.BadCheckpoint, match="no configuration"):
        bayesal.Results.read(tmp_path)
    record = {"version": 1, "config": {"size": 3}, "strategies": {"chance": "x"}}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(errors.BadCheckpoint, match="holds no finished run"):
        bayesal.Results.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(record | {"version": 9}))
    with pytest.raises(errors.BadCheckpoint, match="version 9"):
        bayesal.Results.read(tmp_path)


def test_a_report_that_fails_costs_no_results(tmp_path, monkeypatch):
    def broken(*args, **more):
        raise OSError("the disk is full")

    monkeypatch.setattr(bayesal.Results, "report", broken)
    with pytest.warns(UserWarning, match="no report was written.*the disk is full"):
        assert simulated(folder=tmp_path).labels.tolist() == [8, 11, 14]
    assert not (tmp_path / "report.html").exists()


def test_without_matplotlib_there_is_a_line_in_its_place(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    with pytest.warns(UserWarning, match=r"no report.*pip install 'bayesal\[plots\]'"):
        simulated(folder=tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulated()  # no folder, no report, no word


def test_the_report_is_no_reason_to_import_matplotlib():
    code = (
        "import bayesal, bayesal._report, sys; bayesal.simulate; print('matplotlib' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
