"""The command line: what it writes is what the library says, and what is wrong is one line."""

import csv
import hashlib
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import bayesal
from bayesal import acquire, campaign, pools
from bayesal.cli import _images, _parser, _words, main

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = metadata.version("bayesal")
RECIPE = """
classes = ["left", "right"]
size = 3
first = "uniform"
posterior = { call = "posteriors.logistic", args = [2] }
"""
COMMANDS = [
    [],
    ["suggest"],
    ["campaign"],
    *(
        ["campaign", verb]
        for verb in ("create", "next", "answer", "step", "progress", "export", "invite", "add")
    ),
    ["serve"],
    ["report"],
]


@pytest.fixture(scope="module")
def votes():
    return np.random.default_rng(0).dirichlet(np.ones(3), size=(40, 6))  # points, draws, classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory, votes):
    """Files of a pool of 40 rows, and a campaign on 30 others."""
    place = tmp_path_factory.mktemp("cli")
    x = np.random.default_rng(1).normal(size=(30, 2)).astype(np.float32)
    np.save(place / "votes.npy", votes)
    np.savez(place / "votes.npz", votes=votes, other=votes[:3])
    np.save(place / "mask.npy", np.arange(40) >= 10)
    np.save(place / "short.npy", np.ones(39, bool))
    np.save(place / "vectors.npy", votes.mean(1))
    np.save(place / "objects.npy", np.array([object()]), allow_pickle=True)
    (place / "broken.npz").write_bytes(b"PK no archive")
    (place / "ids.txt").write_text("".join(f"item {row}\n" for row in range(40)))
    (place / "few.txt").write_text("one\ntwo\n")
    (place / "text.npy").write_text("no array")
    np.save(place / "x.npy", x)
    (place / "recipe.toml").write_text(RECIPE)
    (place / "typo.toml").write_text(RECIPE + "\nsizes = 3\n")
    (place / "show.txt").write_text("".join(f"text {row}\n" for row in range(30)))
    (place / "bad.jsonl").write_text('"a"\n{"text": \n')
    (place / "bad.csv").write_text("name,price\na,1\nb\n")
    sqlite3.connect(place / "other.db").execute("CREATE TABLE meta (key, value)").connection.close()
    create = ["create", str(place / "c.db"), "--pool", str(place / "x.npy")]
    options = ["--recipe", str(place / "recipe.toml"), "--show", str(place / "show.txt")]
    assert main(["campaign", *create, *options]) == 0
    with sqlite3.connect(place / "c.db") as old, sqlite3.connect(place / "newer.db") as newer:
        old.backup(newer)
        newer.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    old.close()
    newer.close()
    return place


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def lines_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def asked(store, name, n=1):
    return [ask.token for ask in campaign.open(store).next(name, n)]


# --- words


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([*command, "--help"])
    assert done.value.code == 0
    examples = re.findall(r"^  (bayesal .*)$", capsys.readouterr().out, re.M)
    assert examples
    for line in examples:
        words = shlex.split(line)[1:]
        if words[-1] == "--help":
            continue
        options = _parser.build().parse_args(words)
        assert options.run is not None
        assert options.parser.prog.split()[1:] == command


def test_every_command_exists():
    for module, function in {
        _parser.build().parse_args(shlex.split(example)[1:]).run
        for examples in _parser.EXAMPLES.values()
        for example in examples
        if "--help" not in example
    }:
        assert callable(getattr(__import__(f"bayesal.cli.{module}", fromlist="_"), function))


@pytest.mark.parametrize("words", [[], ["campaign"]])
def test_no_command_prints_the_help(words, capsys):
    assert main(words) == 0
    assert "usage: bayesal" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"bayesal {INSTALLED}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"],
        ["suggest", "votes.npy", "--axes", "N K C", "--size", "5"],  # what are the numbers?
        ["suggest", "votes.npy", "--probs", "--logits", "--axes", "N K C", "--size", "5"],
        ["suggest", "votes.npy", "--probs", "--axes", "N K C", "--size", "many"],
        ["campaign", "create", "new.db", "--recipe", "recipe.toml"],
        [
            "campaign",
            "create",
            "new.db",
            "--recipe",
            "r.toml",
            "--images",
            ".",
            "--image-size",
            "0",
        ],
        ["campaign", "answer", "c.db", "token", "guess"],
        ["serve"],
        ["serve", "c.db", "--demo", "digits"],
    ],
)
def test_words_that_are_no_command_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_sentence_of_the_library_names_options():
    names = {"log_probs": "--log-probs", "revise": "--revise", "axes": "--axes"}
    say = lambda text: _words.of_error(bayesal.errors.WrongSize("axes", text), names)
    assert say("`axes` 'Q'; try axes='N C'.") == "`--axes` 'Q'; try --axes 'N C'."
    assert say("pass log_probs=, or revise=True; or `axes=`.") == (
        "pass --log-probs, or --revise; or `--axes`."
    )
    assert say("my_axes=3\nsays nothing") == "--axes: my_axes=3 says nothing"


# --- suggest


@pytest.mark.parametrize("source", ["votes.npy", "votes.npz:votes"])
def test_suggest_picks_what_choose_picks(source, votes):
    words = ["--probs", "--axes", "N K C", "--size", "7", "--available", "mask.npy", "--seed", "3"]
    assert main(["suggest", source, *words, "--ids", "ids.txt", "--out", "r.csv"]) == 0
    pool = pools.numbers(probs=votes, axes="N K C")
    mask = np.arange(40) >= 10
    batch = bayesal.choose(3, None, pool, 7, acquire.power(), available=mask)
    found = lines_of("r.csv")
    assert [row["id"] for row in found[:7]] == [f"item {row}" for row in batch.indices.tolist()]
    assert len(found) == 30 and [int(row["rank"]) for row in found] == list(range(1, 31))
    assert [np.float32(row["score"]) for row in found[:7]] == list(np.asarray(batch.scores))


def test_the_file_beside_a_ranking_says_how_it_was_made(votes):
    words = ["suggest", "votes.npy", "--probs", "--axes", "N K C", "--size", "4"]
    more = ["--strategy", "k_center", "--features", "vectors.npy", "--available", "mask.npy"]
    for _ in range(2):  # the same bytes again
        assert main([*words, *more, "--seed", "5", "--out", "r.jsonl"]) == 0
        found = json.loads(Path("r.jsonl.json").read_text())
        digest = lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert found["output"]["sha256"] == digest("r.jsonl")
        assert {name: one["sha256"] for name, one in found["inputs"].items()} == {
            "predictions": digest("votes.npy"),
            "available": digest("mask.npy"),
            "features": digest("vectors.npy"),
        }
        assert (found["seed"], found["strategy"], found["kind"]) == (5, "k_center", "probs")
        assert found["versions"]["bayesal"] == INSTALLED
        assert found["versions"]["numpy"] == np.__version__
        assert set(found["versions"]) == {"bayesal", "jax", "numpy", "python"}
    records = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert len(records) == found["output"]["rows"] == 30 and found["output"]["picks"] == 4


@pytest.mark.parametrize("out", [[], ["--out", "-"]])
def test_without_a_file_the_picks_are_printed(out, capsys):
    words = ["suggest", "votes.npy", "--probs", "--axes", "N K C", "--size", "3"]
    assert main([*words, "--strategy", "margin", *out]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[0].split()[:3] == ["id", "rank", "score"]


def test_one_prediction_a_row_is_ranked_by_what_it_has(votes):
    np.save("means.npy", votes.mean(1))
    words = ["suggest", "means.npy", "--probs", "--size", "3", "--out", "one.csv"]
    assert main([*words, "--strategy", "uniform"]) == 0
    behind = [float(row["total"]) for row in lines_of("one.csv")[3:]]
    assert behind == sorted(behind, reverse=True) and behind[0] > behind[-1] > 0


# --- campaigns


def test_a_campaign_from_the_first_question_to_the_labels(folder, capsys):
    store = "whole.db"
    create = ["campaign", "create", store, "--pool", "x.npy", "--recipe", "recipe.toml"]
    assert main([*create, "--show", "show.txt"]) == 0
    assert main(["campaign", "next", store, "--as", "ann", "-n", "3", "--json"]) == 0
    asks = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert [ask["show"] for ask in asks] == [{"text": f"text {ask['row']}"} for ask in asks]
    for ask in asks:
        token = ask["token"]
        assert main(["campaign", "answer", store, token, "label", "left", "--as", "ann"]) == 0
    assert f"bayesal campaign step {store}" in capsys.readouterr().err
    assert main(["campaign", "answer", store, token, "label", "right", "--revise", "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["value"], receipt["number"], receipt["repeated"]) == ("right", 4, False)
    assert main(["campaign", "step", store]) == 0
    assert "round 1" in capsys.readouterr().out
    assert main(["campaign", "step", store]) == 0
    assert "nothing to compute" in capsys.readouterr().out
    assert main(["campaign", "progress", store, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == {"left": 2, "right": 1} and found["round"] == 1
    assert found["people"][0]["annotator"] == "ann" and len(found["rounds"]) == 2
    assert main(["campaign", "progress", store]) == 0
    assert "3 of 30 items settled, 3 answers" in capsys.readouterr().out
    assert main(["campaign", "export", store, "labels.csv"]) == 0
    labels = {row["id"]: row["label"] for row in lines_of("labels.csv")}
    assert labels == {str(ask["row"]): "left" for ask in asks[:2]} | {str(asks[2]["row"]): "right"}


def test_new_items_come_and_are_counted(capsys):
    assert (
        main(["campaign", "create", "grown.db", "--pool", "x.npy", "--recipe", "recipe.toml"]) == 0
    )
    Path("new.csv").write_text('text,price\n"two\nlines",3\n' + "one,4\n" * 29)
    Path("new.txt").write_text("".join(f"new {row}\n" for row in range(30)))
    add = ["campaign", "add", "grown.db", "--pool", "x.npy"]
    assert main([*add, "--show", "new.csv", "--ids", "new.txt"]) == 0
    assert "rows 30 to 59 are new" in capsys.readouterr().out
    with sqlite3.connect("grown.db") as connection:
        row = connection.execute("SELECT id, show FROM items WHERE row = 30").fetchone()
    connection.close()
    assert row[0] == "new 0" and json.loads(row[1]) == {"text": "two\nlines", "price": "3"}


def test_who_is_invited_is_known_by_the_token(capsys):
    url = ["--url", "https://labels.example/"]
    assert main(["campaign", "invite", "c.db", "ann", "ben", *url]) == 0
    for line, name in zip(capsys.readouterr().out.splitlines(), ("ann", "ben"), strict=True):
        said, bearer, link = line.split()
        assert said == name and link == f"https://labels.example/c/c/#token={bearer}"
        assert campaign.open("c.db").who(bearer) == name


def test_a_question_in_a_terminal_cannot_steer_it(capsys):
    Path("steer.txt").write_text("\x1b[2Jgone\u202e\n" * 30)
    create = ["campaign", "create", "steer.db", "--pool", "x.npy", "--recipe", "recipe.toml"]
    assert main([*create, "--show", "steer.txt"]) == 0
    assert main(["campaign", "next", "steer.db", "--as", "ann"]) == 0
    printed = capsys.readouterr()
    assert "gone" in printed.out and "\x1b" not in printed.out and "\u202e" not in printed.out
    assert "What is this? (left, right)" in printed.err


def test_a_token_that_begins_with_a_dash_is_a_token(capsys):
    token = "-a" + "b" * 22
    assert main(["campaign", "answer", "c.db", token, "skip"]) == 1
    assert "TOKEN" in capsys.readouterr().err
    words = ["campaign", "answer", "c.db", "--as=somebody-with-a-name", token, "skip", "--revise"]
    options = _parser.build().parse_args(_parser.plain_tokens(words))
    assert (options.token, options.kind, options.revise) == (token, "skip", True)


def test_real_labels_are_numbers(capsys):
    Path("real.toml").write_text(
        'size = 3\nstrategy = "variance"\nfirst = "uniform"\nposterior = "posteriors.linear"\n'
    )
    assert main(["campaign", "create", "real.db", "--pool", "x.npy", "--recipe", "real.toml"]) == 0
    (token,) = asked("real.db", "ann")
    assert main(["campaign", "answer", "real.db", token, "label", "much"]) == 1
    assert "`VALUE` must be a number" in capsys.readouterr().err
    assert main(["campaign", "answer", "real.db", token, "label", "2.5"]) == 0
    assert campaign.open("real.db").export()[0]["label"] == 2.5


# --- images


@pytest.fixture
def photos(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    gray = lambda shade, size: image.fromarray(np.full(size, shade, np.uint8))
    gray(255, (4, 9)).save(tmp_path / "b" / "white.png")
    gray(0, (30, 5)).save(tmp_path / "a.PNG")
    gray(9, (3, 3)).save(tmp_path / ".hidden" / "c.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_of_images_is_a_pool(photos):
    pixels, paths = _images.read(str(photos), 8)
    assert paths == ["a.PNG", "b/white.png"]
    assert pixels.dtype == np.float32 and pixels.shape == (2, 8, 8, 1)
    assert pixels[0].max() == 0.0 and pixels[1].min() == 1.0
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((2, 2, 3), (255, 0, 0), np.uint8)).save(photos / "red.jpg")
    pixels, paths = _images.read(str(photos), 4)
    assert pixels.shape == (3, 4, 4, 3) and paths[2] == "red.jpg"
    assert (np.abs(pixels[2] - [1, 0, 0]) < 0.02).all()


def test_a_campaign_of_a_folder_shows_its_images(photos, capsys):
    words = ["campaign", "create", "photos.db", "--images", str(photos), "--recipe", "recipe.toml"]
    assert main([*words, "--image-size", "8"]) == 0
    assert "2 images as 8 x 8 pixels" in capsys.readouterr().err
    opened = campaign.open("photos.db")
    assert opened.root == photos and opened.pool().shape == (2, 8, 8, 1)
    ask = opened.next("ann", 1)[0]
    assert ask.show == {"image": ask.id} and (photos / ask.id).is_file()


def test_vectors_and_images_are_joined_by_paths(photos, capsys):
    np.save("two.npy", np.eye(2, dtype=np.float32))
    words = ["campaign", "create", "pairs.db", "--images", str(photos), "--recipe", "recipe.toml"]
    words += ["--pool", "two.npy"]
    assert main(words) == 1  # which image is which row?
    assert "--ids" in capsys.readouterr().err
    Path("paths.txt").write_text("b/white.png\nnowhere.png\n")
    assert main([*words, "--ids", "paths.txt"]) == 1
    assert "line 2" in capsys.readouterr().err
    Path("paths.txt").write_text("b/white.png\na.PNG\n")
    assert main([*words, "--ids", "paths.txt"]) == 0
    shows = {ask.row: ask.show for ask in campaign.open("pairs.db").next("ann", 2)}
    assert shows == {0: {"image": "b/white.png"}, 1: {"image": "a.PNG"}}


def test_a_file_that_is_no_image_is_named(photos, capsys):
    (photos / "broken.png").write_bytes(b"\x89PNG no more")
    words = ["campaign", "create", "broken.db", "--images", str(photos), "--recipe", "recipe.toml"]
    assert main(words) == 1
    assert "broken.png" in capsys.readouterr().err and not Path("broken.db").exists()


# --- what is wrong


SUGGEST = ["suggest", "votes.npy", "--probs", "--axes", "N K C", "--size", "5"]
CREATE = ["campaign", "create", "new.db", "--pool", "x.npy", "--recipe", "recipe.toml"]
WRONG = {
    "no such file": (["suggest", "nowhere.npy", *SUGGEST[2:]], "PREDICTIONS"),
    "no array": (["suggest", "text.npy", *SUGGEST[2:]], "PREDICTIONS"),
    "a pickle": (["suggest", "objects.npy", *SUGGEST[2:]], "PREDICTIONS"),
    "no archive": (["suggest", "broken.npz:votes", *SUGGEST[2:]], "PREDICTIONS"),
    "an archive without a name": (["suggest", "votes.npz", *SUGGEST[2:]], "votes, other"),
    "another ending": (["suggest", "ids.txt", *SUGGEST[2:]], "PREDICTIONS"),
    "axes": ([*SUGGEST, "--axes", "N K"], "--axes"),
    "no axes": (["suggest", "votes.npy", "--probs", "--size", "5"], "--axes"),
    "not probabilities": (["suggest", "x.npy", "--probs", "--size", "5"], "--probs"),
    "strategy": ([*SUGGEST, "--strategy", "best"], "--strategy"),
    "no features": ([*SUGGEST, "--strategy", "badge"], "--features"),
    "features": ([*SUGGEST, "--features", "x.npy"], "--features"),
    "mask": ([*SUGGEST, "--available", "short.npy"], "--available"),
    "ids": ([*SUGGEST, "--ids", "few.txt"], "--ids"),
    "size": ([*SUGGEST, "--size", "41"], "--size"),
    "seed": ([*SUGGEST, "--seed", "-1"], "--seed"),
    "out": ([*SUGGEST, "--out", "ranking.xls"], "--out"),
    "folder of out": ([*SUGGEST, "--out", "nowhere/ranking.csv"], "--out"),
    "recipe": ([*CREATE, "--recipe", "nowhere.toml"], "--recipe"),
    "recipe's line": ([*CREATE, "--recipe", "typo.toml"], "line 7"),
    "pool": ([*CREATE, "--pool", "nowhere.npy"], "--pool"),
    "show": ([*CREATE, "--show", "few.txt"], "--show"),
    "show's line": ([*CREATE, "--show", "bad.jsonl"], "line 2"),
    "show's row": ([*CREATE, "--show", "bad.csv"], "row 2"),
    "show's kind": ([*CREATE, "--show", "x.npy"], "--show"),
    "ids of items": ([*CREATE, "--ids", "few.txt"], "--ids"),
    "images": ([*CREATE[:3], *CREATE[5:], "--images", "nowhere"], "--images"),
    "store is there": (["campaign", "create", "c.db", *CREATE[3:]], "STORE"),
    "no store": (["campaign", "next", "nowhere.db", "--as", "ann"], "STORE"),
    "store of another": (["campaign", "progress", "other.db"], "STORE"),
    "no database": (["campaign", "progress", "ids.txt"], "STORE"),
    "newer": (["campaign", "progress", "newer.db"], "schema 99"),
    "token": (["campaign", "answer", "c.db", "nothing", "label", "left"], "TOKEN"),
    "name": (["campaign", "next", "c.db", "--as", ""], "--as"),
    "number": (["campaign", "next", "c.db", "--as", "ann", "-n", "0"], "-n"),
    "export": (["campaign", "export", "c.db", "labels.xls"], "OUT"),
    "items of another shape": (["campaign", "add", "c.db", "--pool", "vectors.npy"], "--pool"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_that_names_the_option(case, capsys):
    words, named = WRONG[case]
    assert main(words) == 1
    out, err = capsys.readouterr()
    *before, line = err.splitlines()
    assert not out and all(one.startswith("bayesal: ") for one in before)
    assert line.startswith(f"bayesal {words[0]}") and named in line
    assert not Path("new.db").exists()


def test_an_answer_that_cannot_be_is_refused(capsys):
    (token,) = asked("c.db", "cleo")
    assert main(["campaign", "answer", "c.db", token, "label", "up"]) == 1
    assert "`VALUE` must be the name of a class (left, right)" in capsys.readouterr().err
    assert main(["campaign", "answer", "c.db", token, "label", "left", "--as", "ben"]) == 1
    assert "TOKEN" in capsys.readouterr().err
    assert main(["campaign", "answer", "c.db", token, "label", "left"]) == 0
    assert main(["campaign", "answer", "c.db", token, "label", "left"]) == 0
    assert "was there already" in capsys.readouterr().out
    assert main(["campaign", "answer", "c.db", token, "label", "right"]) == 1
    assert "--revise" in capsys.readouterr().err


def test_a_traceback_is_shown_to_who_asks(capsys):
    for words in (["--traceback", *SUGGEST], [*SUGGEST, "--traceback"]):
        assert main([*words, "--strategy", "best"]) == 1
        err = capsys.readouterr().err
        assert "Traceback" in err and err.splitlines()[-1].startswith("bayesal suggest: ")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt, 130), (PermissionError(13, "denied", "x.npy"), 1)]
)
def test_exit_codes(error, code, monkeypatch, capsys):
    monkeypatch.setattr(
        "bayesal.cli._suggest.suggest", lambda options: (_ for _ in ()).throw(error)
    )
    assert main(SUGGEST) == code
    err = capsys.readouterr().err
    assert err == ("" if code == 130 else "bayesal suggest: x.npy: denied\n")


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr("bayesal.cli._suggest.suggest", lambda options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(SUGGEST)


def test_a_warning_is_a_line(capsys, votes):
    with_nan = votes.copy()
    with_nan[3] = np.nan
    np.save("nan.npy", with_nan)
    assert main(["suggest", "nan.npy", *SUGGEST[2:]]) == 0
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "warning" in one]
    assert line.startswith("bayesal: warning: 1 available points have NaN")


# --- other rooms


@pytest.fixture
def served(monkeypatch):
    calls = []
    room = types.ModuleType("bayesal.service")
    room.serve = lambda stores, **options: calls.append((stores, options))
    monkeypatch.setitem(sys.modules, "bayesal.service", room)
    monkeypatch.setattr(bayesal, "service", room, raising=False)
    return calls


def test_serve_passes_on_who_is_invited(served):
    assert main(["serve", "c.db", "d.db", "--as", "ann", "--as", "ben", "--port", "81"]) == 0
    options = {"host": "127.0.0.1", "port": 81, "people": ["ann", "ben"], "owners": []}
    assert served == [(["c.db", "d.db"], options)]


def test_one_command_makes_a_campaign_on_digits(served, capsys, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time it is there
        assert main(["serve", "--demo", "digits"]) == 0
    store = str(Path("bayesal-digits") / "campaign.db")
    assert [stores for stores, _ in served] == [[store]] * 2
    assert served[0][1]["people"] == ["you"] and capsys.readouterr().err.count("is made") == 1
    opened = campaign.open(store)
    assert opened.pool().shape == (1797, 8, 8) and len(opened.next("you", 20)) == 20


def test_report_asks_the_results(monkeypatch, capsys, tmp_path):
    seen = {}

    class Results:
        @staticmethod
        def read(folder):
            seen["folder"] = folder
            return Results()

        def report(self, path, **options):
            seen.update(options, path=path)
            return path

    monkeypatch.setattr("bayesal.cli._reports.Results", Results)
    words = ["report", "runs", "--target", "0.9", "--target", "0.95", "--labels", "mask.npy"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{Path('runs') / 'report.html'}\n"
    assert seen["folder"] == "runs" and seen["target"] == [0.9, 0.95] and seen["pool"] is None
    assert seen["labels"].shape == (40,)
    assert main(["report", "runs", "--out", "page.html"]) == 0 and seen["path"] == Path("page.html")


# --- as a process


def started(*words):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def test_help_needs_neither_jax_nor_numpy():
    code = (
        "import sys; from bayesal.cli import main\n"
        "try: main(['campaign', 'create', '--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "assert not {'jax', 'numpy', 'sqlalchemy'} & set(sys.modules)"
    )
    done = started("-c", code)
    assert done.returncode == 0 and "usage: bayesal campaign create" in done.stdout, done.stderr


def test_the_module_is_a_program(folder):
    done = started("-m", "bayesal", "campaign", "progress", str(folder / "nowhere.db"))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("bayesal campaign progress: STORE: there is no campaign")
    assert len(done.stderr.splitlines()) == 1
