"""Every page of the gallery draws its picture. `python tests/test_gallery.py` draws them anew."""

import os
import re
import struct
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

GALLERY = Path(__file__).resolve().parent.parent / "docs" / "gallery"
PAGES = sorted(page for page in GALLERY.glob("*.md") if page.stem != "index")
QUICK = {"parts"}  # the others fit and compile for more than 3 s
LARGEST = 60 * 1024  # bytes of a picture


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def script(page: Path) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return block


def draw(page: Path) -> None:
    """Run the page in the current folder: there it saves its picture."""
    exec(compile(script(page), page.name, "exec"), {})


def pixels(picture: Path) -> tuple[int, int]:
    """Width and height, from the header of a PNG."""
    return struct.unpack(">II", picture.read_bytes()[16:24])


def empty(ax) -> bool:
    return not (ax.lines or ax.collections or ax.patches or ax.images)


def parameter(page: Path):
    marks = [] if page.stem in QUICK else [pytest.mark.slow]
    return pytest.param(page, id=page.stem, marks=marks)


@pytest.mark.parametrize("page", [parameter(page) for page in PAGES])
def test_a_page_draws_its_picture(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(page)
    (drawn,) = tmp_path.glob("*")
    assert drawn.name == f"{page.stem}.png"
    assert pixels(drawn) == pytest.approx(pixels(GALLERY / drawn.name), abs=8)
    (number,) = plt.get_fignums()
    axes = plt.figure(number).axes
    assert axes and not any(map(empty, axes))
    assert all(ax.get_title(loc="left") for ax in axes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_a_title_a_text_its_picture_and_one_short_script(page):
    text = page.read_text(encoding="utf-8")
    title, said, picture = text.split("\n\n")[:3]
    assert title.startswith("# ") and said
    assert re.fullmatch(rf"!\[.{{10,}}\]\({page.stem}\.png\)", picture)
    assert 10 <= len(script(page).splitlines()) <= 30
    assert (GALLERY / f"{page.stem}.png").stat().st_size <= LARGEST


def test_the_grid_shows_every_page_with_its_title_and_no_picture_is_left_over():
    grid = (GALLERY / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        title = page.read_text(encoding="utf-8").split("\n")[0].removeprefix("# ")
        assert f"]({page.stem}.png)]({page.stem}.md) [{title}]({page.stem}.md)" in grid
    pictures = {picture.stem for picture in GALLERY.glob("*.png")}
    assert pictures == {page.stem for page in PAGES}


if __name__ == "__main__":
    os.chdir(GALLERY)
    for page in PAGES:
        draw(page)
        plt.close("all")
