"""Words of the command line: commands, options, and an example of each. Imports nothing slow."""

import argparse
import re
from collections.abc import Callable
from typing import Any

TOKEN = re.compile(r"-[\w-]{23}")  # of a question; one in 64 begins with a dash

EXAMPLES = {
    "": ["bayesal suggest --help"],
    "suggest": [
        'bayesal suggest predictions.npy --probs --axes "N K C" --size 50 '
        "--strategy power_bald --available mask.npy --out ranking.csv",
        "bayesal suggest members.npz:logits --logits --axes KNC --size 10 --ids ids.txt",
    ],
    "campaign": ["bayesal campaign create --help"],
    "create": [
        "bayesal campaign create mails.db --pool vectors.npy --recipe recipe.toml --show mails.txt",
        "bayesal campaign create photos.db --images photos --recipe recipe.toml",
    ],
    "next": ["bayesal campaign next mails.db --as ann -n 5"],
    "answer": [
        "bayesal campaign answer mails.db LLgVfFEu1q9vTCz2hN5kQw0j label spam",
        "bayesal campaign answer mails.db LLgVfFEu1q9vTCz2hN5kQw0j label ham --revise",
    ],
    "step": ["bayesal campaign step mails.db"],
    "progress": ["bayesal campaign progress mails.db --json"],
    "export": ["bayesal campaign export mails.db labels.csv"],
    "invite": ["bayesal campaign invite mails.db ann ben"],
    "add": ["bayesal campaign add mails.db --pool new.npy --show new.txt"],
    "serve": ["bayesal serve mails.db --as ann --as ben", "bayesal serve --demo digits"],
    "report": ["bayesal report runs/digits --out report.html"],
}
CAMPAIGN = {
    "store": "STORE",
    "pool": "--pool",
    "recipe": "--recipe",
    "show": "--show",
    "images": "--images",
    "root": "--images",
    "ids": "--ids",
    "annotator": "--as",
    "n": "-n",
    "token": "TOKEN",
    "kind": "KIND",
    "value": "VALUE",
    "revise": "--revise",
    "path": "OUT",
}
SUGGEST = {
    "predictions": "PREDICTIONS",
    "probs": "--probs",
    "log_probs": "--log-probs",
    "logits": "--logits",
    "axes": "--axes",
    "size": "--size",
    "name": "--strategy",
    "available": "--available",
    "features": "--features",
    "embed": "--features",
    "ids": "--ids",
    "key": "--seed",
    "path": "--out",
}
SERVE = {"store": "STORE", "annotator": "--as", "host": "--host", "port": "--port"}
REPORT = {
    "folder": "FOLDER",
    "path": "--out",
    "target": "--target",
    "metric": "--metric",
    "pool": "--pool",
    "labels": "--labels",
}


def build() -> argparse.ArgumentParser:
    """The parser of all commands. What it gives has `run`, the place of a function, or None."""
    parser = argparse.ArgumentParser(
        prog="bayesal",
        description="Bayesian active learning: what to label next, and campaigns of people.",
        epilog=_examples(""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", nargs=0, action=_Version, help="print the version and exit")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.set_defaults(run=None, names={}, parser=parser)
    commands = parser.add_subparsers(metavar="COMMAND")
    _suggest(commands)
    campaign = _command(commands, "campaign", None, {}, "a queue of questions that people answer")
    _campaign(campaign.add_subparsers(metavar="VERB"))
    _serve(commands)
    _report(commands)
    return parser


class _Version(argparse.Action):
    """The installed version, which takes an import of its own."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        from importlib import metadata

        print(f"bayesal {metadata.version('bayesal')}")
        parser.exit()


def plain_tokens(words: list[str]) -> list[str]:
    """Tokens of questions that begin with a dash, made safe from being read as options."""
    if words[:2] != ["campaign", "answer"]:
        return words
    return [f" {word}" if TOKEN.fullmatch(word) else word for word in words]


def _examples(name: str) -> str:
    return "example:\n" + "\n".join(f"  {line}" for line in EXAMPLES[name])


def _command(
    commands: Any,
    name: str,
    run: tuple[str, str] | None,
    names: dict[str, str],
    what: str,
    *,
    compiles: bool = False,
) -> argparse.ArgumentParser:
    """One command. `run`: module and function; `names`: the option of each argument."""
    parser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=_examples(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show where an error came from",
    )
    parser.set_defaults(run=run, names=names, parser=parser, compiles=compiles)
    return parser


def _suggest(commands: Any) -> None:
    what = "rank a pool by predictions of any model: the rows to label next come first"
    parser = _command(commands, "suggest", ("_suggest", "suggest"), SUGGEST, what, compiles=True)
    add = parser.add_argument
    add("predictions", metavar="PREDICTIONS", help="numbers of the model: x.npy or x.npz:name")
    kinds = parser.add_mutually_exclusive_group(required=True)
    for kind, says in (
        ("probs", "the numbers are probabilities"),
        ("log_probs", "the numbers are normalized log-probabilities"),
        ("logits", "the numbers are unnormalized log-probabilities"),
    ):
        kinds.add_argument(SUGGEST[kind], action="store_const", const=kind, dest="kind", help=says)
    add("--axes", help='their order: K draws, N points, C classes, such as "N K C" or "N C"')
    add("--size", type=int, required=True, help="rows to pick")
    add("--strategy", default="power_bald", help="a name of bayesal.acquire (default: %(default)s)")
    add("--available", metavar="FILE", help="boolean mask [N] of the rows that may be picked")
    add("--features", metavar="FILE", help="vectors [N, D], for strategies that need them")
    add("--ids", metavar="FILE", help="names of all N rows, one a line; default row numbers")
    add("--seed", type=int, default=0, help="fixes every random choice (default: %(default)s)")
    add(
        "--out",
        metavar="FILE",
        help="ranking.csv or ranking.jsonl, and FILE.json with versions and hashes; "
        "without it, or with -, the picks are printed",
    )


def _campaign(verbs: Any) -> None:
    verb = lambda name, function, what, **more: _on_store(
        _command(verbs, name, ("_campaigns", function), CAMPAIGN, what, **more)
    )
    add = verb("create", "create", "begin a campaign with its first questions", compiles=True)
    add("--pool", metavar="FILE", help="examples [N, ...]: an .npy, which must stay, or x.npz:name")
    add("--recipe", metavar="FILE", required=True, help=".toml or .json; `posterior` is needed")
    add("--images", metavar="FOLDER", help="images to show; without --pool, to learn from too")
    add("--image-size", metavar="PIXELS", type=_whole, default=32, help="(default: %(default)s)")
    _items(add)
    add = verb("next", "next_questions", "questions for one person, kept for her for a while")
    add("--as", dest="annotator", metavar="NAME", required=True, help="who asks")
    add("-n", type=int, default=1, help="how many (default: %(default)s)")
    add("--json", action="store_true", help="all that is known of each question")
    add = verb("answer", "answer", "write an answer; on disk when the command ends")
    add("token", metavar="TOKEN", type=str.strip, help="the token that came with the question")
    add("kind", choices=("label", "reject", "abstain", "skip"), help="reject: none of the classes")
    add("value", metavar="VALUE", nargs="?", help="of a label: a class, or a number")
    add("--as", dest="annotator", metavar="NAME", help="refuse tokens of others")
    add("--revise", action="store_true", help="correct an answer; the old one is kept")
    add("--json", action="store_true", help="the receipt")
    add = verb("step", "step", "compute the next round if it is due", compiles=True)
    add("--force", action="store_true", help="also before it is due")
    add = verb("progress", "progress", "how far a campaign is")
    add("--json", action="store_true", help="all figures")
    add = verb("export", "export", "write the answered items with their labels")
    add("out", metavar="OUT", help="labels.csv: one line an item; labels.jsonl: all answers too")
    add = verb("invite", "invite", "make a bearer token for each annotator; older ones end")
    add("annotators", metavar="NAME", nargs="+", help="who")
    add("--url", default="http://127.0.0.1:8000", help="of the service (default: %(default)s)")
    add = verb("add", "add", "add new items, any day")
    add("--pool", metavar="FILE", required=True, help="more examples of the same shape")
    _items(add)


def _on_store(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    parser.add_argument("store", metavar="STORE", help="an SQLite file, or a database's URL")
    return parser.add_argument


def _items(add: Callable[..., Any]) -> None:
    add("--show", metavar="FILE", help="what people see: lines of .txt or .jsonl, rows of a .csv")
    add("--ids", metavar="FILE", help="names of the items, one a line; default row numbers")


def _serve(commands: Any) -> None:
    what = "serve the labeling page of campaigns to browsers"
    parser = _command(commands, "serve", ("_serve", "serve"), SERVE, what, compiles=True)
    add = parser.add_argument
    add("stores", metavar="STORE", nargs="*", help="an SQLite file, or a database's URL")
    add("--demo", choices=("digits",), help="a campaign on digits, kept in bayesal-digits/")
    add("--host", default="127.0.0.1", help="(default: %(default)s, this machine only)")
    add("--port", type=int, default=8000, help="0: any free one (default: %(default)s)")
    add(
        "--as",
        dest="annotators",
        action="append",
        metavar="NAME",
        help="invite somebody and print her start link; again for more. Her older link ends",
    )
    add(
        "--owner",
        dest="owners",
        action="append",
        metavar="NAME",
        help="the same, for somebody who may also add items over HTTP",
    )


def _report(commands: Any) -> None:
    what = "one page about a comparison of strategies"
    parser = _command(commands, "report", ("_reports", "report"), REPORT, what)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="that bayesal.simulate(folder=...) wrote")
    add("--out", metavar="FILE", help="default: report.html in the folder")
    add("--target", type=float, action="append", help="a level of the metric to mark")
    add("--metric", help="default: the first")
    add("--pool", metavar="FILE", help="the examples, for thumbnails")
    add("--labels", metavar="FILE", help="the label of each example")


def _whole(text: str) -> int:
    """A size in pixels."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 1024")
    return int(text)
