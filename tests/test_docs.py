"""Every Python block of the docs runs, page by page: each page is one program."""

import importlib.util
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import test_public

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MADE = {"_build", "api", "notebooks"}  # by `make docs`
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in MADE)
BESIDE = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CODE_OF_CONDUCT.md",
        "CHANGELOG.md",
        "llms.txt",
    )
]
PROGRAMS = [  # the gallery: tests/test_gallery.py
    page
    for page in PAGES
    if "```python" in page.read_text(encoding="utf-8") and page.parent.name != "gallery"
]

# What a page's program has to give, beyond running; names are those of its blocks.
GIVES = {
    "embeddings": lambda names: names["accuracy"] > 0.85,
    "text": lambda names: names["accuracy"] > 0.9,
    "images": lambda names: names["accuracy"] > 0.5,
    "regression": lambda names: names["rmse"] < 0.9,
    "preferences": lambda names: names["agreement"] > 0.6,
    "calibrate": lambda names: 0.83 < names["coverage"] < 0.97,
    "annotators": lambda names: names["accuracy"] > 0.9 and names["asked"].new.any(),
    "campaigns": lambda names: len(names["labels"]) == 60 and names["running"].due().round == 3,
    "foreign": lambda names: len(set(names["batch"].indices.tolist())) == 10,
    "integrations": lambda names: (
        names["draws"].shape == (50, 100, 10)
        and len(set(names["rows"].tolist())) == 5
        and names["utilities"].shape == (5, 300)
    ),
    "network": lambda names: (
        names["accuracy"] > 0.6
        and rates_matter(names["network"], (8, 8, 1), 0.0, 0.0)
        and rates_matter(names["searched"], (64,), 0.5, 0.1)
    ),
    "search": lambda names: searched_inside(names["tried"]),
}


def rates_matter(network, shape, first: float, second: float) -> bool:
    """Ten outputs, which dropout changes: its own rate, or the rate that is passed."""
    x = jnp.ones(shape)
    params = network.init(jax.random.key(0), x)
    a = network.apply(params, x, jax.random.key(1), first)
    b = network.apply(params, x, jax.random.key(1) if second else None, second)
    return a.shape == b.shape == (10,) and bool((a != b).any())


def searched_inside(tried) -> bool:
    """The search kept to its bounds, its budget, and to what is searched."""
    bounds = tried["steps"].min() >= 50 and tried["steps"].max() <= 800
    return bool(bounds) and set(tried["prior_scale"].tolist()) == {1.0} and len(tried["round"]) > 2


def name(page: Path) -> str:
    return str(page.relative_to(DOCS).with_suffix(""))


SLOW = {
    "guides/annotators",
    "guides/devices",
    "guides/disk",
    "guides/text",
    "guides/calibrate",
    "guides/images",
    "guides/network",
    "guides/integrations",
    "guides/posteriors",
    "guides/preferences",
    "guides/regression",
    "guides/search",
}


def parameter(page: Path):
    marks = [pytest.mark.slow] if name(page) in SLOW else []
    return pytest.param(page, id=name(page), marks=marks)


@pytest.mark.parametrize("page", [parameter(page) for page in PROGRAMS])
def test_a_page_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        if "import torch" in block and importlib.util.find_spec("torch") is None:
            continue  # an optional package
        exec(compile(block, f"{page.name}, block {number + 1}", "exec"), names)
    if page.stem in GIVES and page.parent.name == "guides":
        assert GIVES[page.stem](names)


@pytest.mark.parametrize("page", [*BESIDE, *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in file or file.startswith("mailto:"):
            continue
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.relative_to(ROOT)}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {slug(title) for title in titles}, f"{page.name}: {target}"


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*sorted((DOCS / "results").glob("*.md"))], ids=name)
def test_a_result_begins_with_its_verdict_and_names_its_command(page):
    if page.stem == "index":
        pytest.skip("the list of results")
    text = page.read_text(encoding="utf-8")
    assert text.split("\n\n")[1].startswith("**"), "the verdict first"
    assert re.search(r"^(python -m experiments\.|make )", text, re.M), "and its command"
    assert "\n|" in text, "and a table"


def reference():
    """`docs/_reference.py`, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("_reference", DOCS / "_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_api_pages_hold_every_public_name_with_its_docstring(tmp_path):
    named = test_public.names()
    reference().write(tmp_path, test_public.modules(), named)
    text = "\n".join(page.read_text(encoding="utf-8") for page in tmp_path.glob("*.md"))
    for public, value in named.items():
        (head,) = re.findall(rf"^:+\{{py:\w+\}} {re.escape(public)}(?=[( \n]).*$", text, re.M)
        types = head.removeprefix(head.split("(")[0])
        assert not any(part in types for part in (" at 0x", "jaxtyping.", "bayesal."))
        if callable(value):
            assert head.startswith("::::{")
    assert text.count("\n::::{py:") == text.count("\n::::\n")  # all are closed


def test_docstrings_become_markdown():
    doc = """Gap: `a | b` of |x| in [0, 1].

    Second, see https://arxiv.org/abs/1112.5745.

    Args:
      x, y: numbers
        of two lines.
    Raises:
      WrongShape: one. NonFinite: two.

    >>> 1 + 1
    2
    """
    assert reference().body(inspect.cleandoc(doc)).split("\n\n") == [
        r"Gap: `a | b` of \|x\| in \[0, 1\].",
        "Second, see <https://arxiv.org/abs/1112.5745>.",
        "**Args**",
        "- `x, y`: numbers of two lines.",
        "**Raises**",
        "- `WrongShape`: one.\n- `NonFinite`: two.",
        "```pycon\n>>> 1 + 1\n2\n```",
    ]


def sentences(text: str) -> list[str]:
    """Sentences of a page's prose: no code, table, heading or picture; code in a line is a word."""
    text = re.sub(r"```.*?```|!\[[^\]]*\]\([^)]*\)", "", text, flags=re.S)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", text))
    lines = ["" if line.startswith(("|", "#")) else line for line in text.split("\n")]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(lines))
    return [one for block in blocks for one in re.split(r"(?<=[.!?])[*)\"]*\s+", block)]


def mean_words(texts: list[str]) -> float:
    """Words in a sentence, on average; what has less than three words is a label."""
    found = [
        re.findall(r"[A-Za-z0-9][\w'.,/%-]*", one) for text in texts for one in sentences(text)
    ]
    counts = [len(words) for words in found if len(words) > 2]
    return sum(counts) / max(len(counts), 1)


def test_words_are_counted_in_prose_alone():
    page = "# A title of four\n\nOne two `three` four. Five [six](x.md) seven.\n\n|a|b|c|d|\n- No."
    assert mean_words([page, "```python\na b c d\n```"]) == 3.5


def test_sentences_are_short():
    """On average: all pages under 18 words, each page under 20; and the docstrings."""
    texts = {page.name: page.read_text(encoding="utf-8") for page in BESIDE}
    texts |= {name(page): page.read_text(encoding="utf-8") for page in PAGES}
    assert mean_words(list(texts.values())) < 18
    long = {page: mean_words([text]) for page, text in texts.items() if len(sentences(text)) > 2}
    assert not {page: mean for page, mean in long.items() if mean >= 20}
    docs = [inspect.getdoc(value) or "" for value in test_public.names().values()]
    said = [re.split(r"\n(?:Args|Returns|Raises|References):|\n\s*>>>", doc)[0] for doc in docs]
    assert mean_words(said) < 18
