"""Every strategy on every pool gives the batch of the array, or is refused with the reason."""

from pathlib import Path

import pytest
import strategies_table as table

from bayesal import acquire
from bayesal.pools import _walk

PAGE = Path(__file__).resolve().parent.parent / "docs" / "strategies.md"
COMMAND = "python -m tests.strategies_table > docs/strategies.md"
# long to compile, and alike: rankings, and geometry on features
OFTEN = {"top", "batch_bald", "epig", "k_center", "uniform", "prefilter", "log_det_gaussian"}
OFTEN |= {"epig, real labels", "batch_epig, real labels"}


@pytest.fixture(autouse=True, scope="module")
def several_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_DEVICE", table.ON_DEVICE)
        patch.setattr(_walk, "ON_HOST", table.ON_HOST)
        patch.setattr(_walk, "NUMBERS", table.ON_HOST * table.DRAWS * table.CLASSES)
        yield


def committed():
    """The committed cells, by strategy and pool."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if "|" in line]
    head, _, *body = rows
    return {
        (name.strip("`"), pool): said
        for name, *cells in body
        for pool, said in zip(head[1:], cells, strict=True)
    }


strategies = pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow)
        for name in table.STRATEGIES
    ],
)


def test_every_strategy_and_every_pool_is_in_the_table():
    assert {name.split(",")[0] for name in table.STRATEGIES} == set(acquire.__all__) - {"named"}
    assert PAGE.read_text() == table.markdown(lambda *names: committed()[names]), COMMAND


@strategies
@pytest.mark.parametrize("pool", table.TABLE)
def test_a_cell_is_as_the_page_says(strategy, pool):
    assert table.cell(strategy, pool) == committed()[strategy, pool], f"regenerate: {COMMAND}"


@strategies
@pytest.mark.slow
@pytest.mark.parametrize("pool", table.OTHERS)
def test_other_forms_of_a_pool_change_nothing(strategy, pool):
    assert table.cell(strategy, pool) == "ok"
