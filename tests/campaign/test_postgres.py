"""The same campaign on PostgreSQL."""

import threading

import numpy as np
import pytest
import sqlalchemy

from bayesal import campaign, errors
from tests.campaign import postgres
from tests.campaign.test_campaign import answered, same
from tests.campaign.world import RECIPE, Clock, X, begun, right

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        postgres.programs() is None, reason="PostgreSQL is not installed (apt: postgresql)"
    ),
]
pytest.importorskip("psycopg", reason="pip install 'bayesal[postgres]'")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with postgres.server(tmp_path_factory.mktemp("postgres")) as place:
        yield place


@pytest.fixture
def empty(url):
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop schema public cascade")
        connection.exec_driver_sql("create schema public")
    engine.dispose()
    return url


def test_picks_and_states_are_those_of_sqlite(empty, begun, tmp_path):
    one = campaign.create(empty, X, RECIPE, clock=Clock())
    two = campaign.create(tmp_path / "c.db", X, RECIPE, clock=Clock())
    for _ in range(3):
        assert answered(one) == answered(two)
        assert one.step() == two.step() is not None
    assert same(one.state(), two.state())
    again = campaign.open(empty, clock=Clock())
    assert same(again.state(), one.state())
    assert [r | {"answers": 0} for r in one.export()] == [r | {"answers": 0} for r in two.export()]


def test_a_correction_and_a_conflict(empty):
    running = campaign.create(empty, X, RECIPE, clock=Clock())
    ask = running.next("ann")[0]
    running.answer(ask.token, "label", "left")
    assert running.answer(ask.token, "label", "left").repeated
    with pytest.raises(errors.Conflict):
        running.answer(ask.token, "label", "right")
    running.answer(ask.token, "label", "right", revise=True)
    assert running.progress().kinds["label"] == 1


def test_parallel_people(empty):
    running = campaign.create(empty, X, RECIPE, clock=Clock())
    faults = []

    def work(name):
        try:
            for _ in range(20):
                for ask in running.next(name):
                    running.answer(ask.token, "label", right(ask.row), annotator=name)
                running.step()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(f"p{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    rows = [record["row"] for record in running.export()]
    assert len(rows) == len(set(rows)) > 8
    told = running.state().ledger.rows()
    assert len(told) == len(np.unique(told))


def test_no_campaign_and_two_campaigns(empty):
    with pytest.raises(errors.BadStore, match="holds no campaign"):
        campaign.open(empty)
    campaign.create(empty, X, RECIPE, clock=Clock())
    with pytest.raises(errors.BadStore, match="holds a campaign already"):
        campaign.create(empty, X, RECIPE)
