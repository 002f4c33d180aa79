"""A campaign from its first question to its last answer: what is on disk decides."""

import json
import sqlite3
import threading

import jax
import numpy as np
import pytest

from bayesal import campaign, errors
from bayesal.types import REJECTED
from tests.campaign.world import CLASSES, RECIPE, Clock, X, begun, clock, right, running, store


def answered(running, people=("ann",), most=100):
    """Everybody answers until the round is due; the rows, in order."""
    rows = []
    while not running.due().ready and len(rows) < most:
        asks = [(who, ask) for who in people for ask in running.next(who)]
        if not asks:
            break
        for who, ask in asks:
            running.answer(ask.token, "label", right(ask.row), annotator=who)
            rows.append(ask.row)
    return rows


def leaves(state):
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        for leaf in jax.tree.leaves(state)
    ]


def same(a, b):
    return all(np.array_equal(u, v) for u, v in zip(leaves(a), leaves(b), strict=True))


def sql(running, statement, *values):
    with sqlite3.connect(running.store.engine.url.database) as connection:
        found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


# --- rounds


def test_a_round_tells_what_was_answered_and_asks_something_new(running):
    assert running.step() is None  # nothing is due
    first = answered(running)
    assert len(first) == 4 == len(set(first))
    assert running.step() == 1
    state = running.state()
    assert state.ledger.rows().tolist() == first
    assert np.asarray(state.ledger.labels)[:4].tolist() == [int(X[r, 0] > 0) for r in first]
    again = [ask.row for ask in running.next("ann", 100)]
    assert len(again) == 6 and not set(again) & set(first)
    assert running.step() is None


def test_a_batch_is_what_the_learner_asks(running):
    answered(running)
    running.step()
    asked = [ask.row for ask in running.next("ann", 6)]
    selection = running.recipe.learner.ask(running.state(), running.pool())
    assert asked == np.asarray(selection.indices).tolist()


def test_states_are_a_cache_that_answers_rebuild_to_the_bit(running, store, clock):
    for _ in range(3):
        answered(running)
        running.step()
    state = running.state()
    assert same(campaign.open(store, clock=clock).state(), state)
    sql(running, "update rounds set state = null")
    assert same(campaign.open(store, clock=clock).state(), state)
    sql(running, "update rounds set state = x'00'")  # damaged: the checksum differs
    assert same(campaign.open(store, clock=clock).state(), state)


def test_answers_in_the_middle_of_a_round_count_in_the_next(running):
    asks = running.next("ann", 6)
    for ask in asks[:2]:
        running.answer(ask.token, "label", right(ask.row))
    assert not running.due().ready
    assert running.step(force=True) == 1
    assert running.state().ledger.rows().tolist() == [ask.row for ask in asks[:2]]
    late = asks[3]
    running.answer(late.token, "label", right(late.row))  # a question of the round before
    assert running.step(force=True) == 2
    assert late.row in running.state().ledger.rows()


def test_a_deadline_ends_a_round(tmp_path, clock):
    recipe = RECIPE | {"deadline": 60}
    running = campaign.create(tmp_path / "c.db", X, recipe, clock=clock)
    clock.now += 100
    assert not running.due().ready  # nothing was answered: there is nothing to learn
    ask = running.next("ann")[0]
    running.answer(ask.token, "label", right(ask.row))
    assert running.due().ready


def test_the_end_of_the_pool(tmp_path, clock):
    running = campaign.create(tmp_path / "c.db", X[:7], RECIPE, clock=clock)
    for _ in range(4):
        answered(running)
        running.step()
    assert running.next("ann") == [] and not running.due().ready
    assert running.progress().settled == 7


def test_new_items_any_day(running):
    answered(running)
    running.step()
    more = np.float32([[9.0, 9.0], [-9.0, 9.0]])
    assert running.add(more, show=["far right", "far left"], ids=["r", "l"]) == 40
    answered(running)
    running.step()
    assert running.pool().shape == (42, 2)
    assert running.progress().rows == 42
    sql(running, "update rounds set state = null")
    assert same(campaign.open(running.store.engine.url.database).state(), running.state())


def test_new_items_wake_a_finished_campaign(tmp_path, clock):
    running = campaign.create(tmp_path / "c.db", X[:7], RECIPE, clock=clock)
    for _ in range(4):
        answered(running)
        running.step()
    running.add(X[7:12])
    assert running.due().ready and running.step() is not None
    assert {ask.row for ask in running.next("ann", 9)} == set(range(7, 12))


def test_an_npy_file_stays_where_it_is(tmp_path, clock):
    np.save(tmp_path / "x.npy", X)
    running = campaign.create(tmp_path / "c.db", tmp_path / "x.npy", RECIPE, clock=clock)
    answered(running)
    assert running.step() == 1
    assert isinstance(running.pool(), np.memmap)
    np.save(tmp_path / "x.npy", X[::-1])
    with pytest.raises(errors.BadPool, match="is not the file that it was"):
        running.step(force=True)
    np.save(tmp_path / "x.npy", X)
    assert running.step(force=True) == 2


# --- questions


def test_a_reload_gives_the_same_questions(running):
    asks = running.next("ann", 3)
    assert [a.token for a in running.next("ann", 3)] == [a.token for a in asks]


def test_two_people_get_different_items(running):
    one, two = running.next("ann", 3), running.next("bob", 3)
    assert len({ask.row for ask in [*one, *two]}) == 6
    assert running.next("eve") == []


def test_an_item_comes_back_after_its_lease_and_a_late_answer_counts(running, clock):
    held = running.next("ann")[0]
    clock.now += RECIPE.get("lease", 600) + 1
    other = running.next("bob")[0]
    assert other.row == held.row and other.token != held.token
    running.answer(held.token, "label", right(held.row), annotator="ann")
    running.answer(other.token, "label", right(held.row), annotator="bob")
    assert running.progress().kinds["label"] == 2 and running.progress().settled == 1


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_jumping_clock_loses_nothing(running, clock, jump):
    asks = running.next("ann", 2)
    clock.now += jump
    again = running.next("ann", 2)
    assert [a.row for a in again] == [a.row for a in asks]
    for ask in [*asks, *again]:
        running.answer(ask.token, "label", right(ask.row))
    assert running.progress().kinds["label"] == 2
    clock.now -= jump
    assert not {a.row for a in running.next("ann", 6)} & {a.row for a in asks}


def test_later_comes_at_the_end_of_the_round(running):
    first = running.next("ann")[0]
    running.answer(first.token, "skip")
    rows = [ask.row for ask in running.next("ann", 6)]
    assert rows[-1] == first.row and len(rows) == 6
    last = running.next("ann", 6)[-1]
    running.answer(last.token, "label", right(last.row))
    assert running.progress().kinds == {"label": 1, "reject": 0, "abstain": 0, "skip": 0}


def test_who_cannot_tell_is_not_asked_again_and_somebody_else_is(running):
    hard = running.next("ann")[0]
    running.answer(hard.token, "abstain")
    assert hard.row not in {ask.row for ask in running.next("ann", 6)}
    assert hard.row in {ask.row for ask in running.next("bob", 6)}


def test_a_row_that_nobody_can_tell_has_weight_0(running):
    hard = running.next("ann")[0]
    running.answer(hard.token, "abstain")
    running.step(force=True)
    state = running.state()
    assert state.ledger.rows().tolist() == [hard.row] and not np.asarray(state.ledger.weight).any()
    assert hard.row not in {ask.row for ask in running.next("ann", 6)}


def test_a_rejected_row_is_told_as_such(running):
    odd = running.next("ann")[0]
    running.answer(odd.token, "reject")
    answered(running)
    running.step()
    ledger = running.state().ledger
    at = ledger.rows().tolist().index(odd.row)
    assert int(ledger.labels[at]) == REJECTED and float(ledger.weight[at]) == 0
    assert next(r for r in running.export() if r["row"] == odd.row)["kind"] == "reject"


# --- answers


def test_the_same_answer_again_changes_nothing(running):
    ask = running.next("ann")[0]
    one = running.answer(ask.token, "label", "left")
    two = running.answer(ask.token, "label", "left")
    assert two == one._replace(repeated=True) and not one.repeated
    assert running.progress().answers == 1


def test_another_answer_is_refused_unless_it_revises(running):
    ask = running.next("ann")[0]
    running.answer(ask.token, "label", "left")
    with pytest.raises(errors.Conflict, match='has the answer "left" already'):
        running.answer(ask.token, "label", "right")
    running.answer(ask.token, "label", "right", revise=True)
    kept = sql(running, "select value, revoked_by from answers order by number")
    assert kept == [('"left"', 2), ('"right"', None)]
    with pytest.raises(errors.Conflict):  # a late retry of the old answer
        running.answer(ask.token, "label", "left")


def test_a_correction_is_told_in_the_next_round(running):
    asks = running.next("ann", 4)
    for ask in asks:
        running.answer(ask.token, "label", right(ask.row))
    running.step()
    wrong = asks[0]
    other = CLASSES[1 - CLASSES.index(right(wrong.row))]
    running.answer(wrong.token, "label", other, revise=True)
    running.step(force=True)
    ledger = running.state().ledger
    assert CLASSES[int(ledger.labels[0])] == other and int(ledger.count) == 4


def test_a_row_is_told_once_whatever_comes_twice(running, clock):
    first = running.next("ann")[0]
    clock.now += 1e4
    second = running.next("ann")[0]
    assert (second.row, second.token == first.token) == (first.row, False)
    running.answer(first.token, "label", "left")
    running.answer(second.token, "label", "right")
    assert sql(running, "select count(*) from answers where revoked_by is null") == [(1,)]


def test_parallel_people_lose_and_double_nothing(running):
    lost = []

    def work(name):
        try:
            for _ in range(30):
                for ask in running.next(name):
                    running.answer(ask.token, "label", right(ask.row), annotator=name)
                running.step()
        except Exception as error:
            lost.append(error)

    threads = [threading.Thread(target=work, args=(f"p{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    while running.step(force=running.progress().settled < 40 and not running.next("p0")):
        answered(running)
    rounds = sql(running, "select round, answers_upto from rounds order by round")
    assert [r for r, _ in rounds] == list(range(len(rounds)))
    rows = [r for (r,) in sql(running, "select row from answers where revoked_by is null")]
    assert len(rows) == len(set(rows))
    told = running.state().ledger.rows().tolist()
    assert len(told) == len(set(told)) and set(told) <= set(rows)


def test_labels_that_people_have_already(running):
    for row in range(6):
        assert not running.record(str(row), "import", "label", right(row)).repeated
    assert running.record("0", "import", "label", right(0)).repeated
    assert running.due().ready and running.step() == 1
    assert running.state().ledger.rows().tolist() == list(range(6))
    with pytest.raises(errors.WrongIndex, match="is no item"):
        running.record("nobody", "import", "label", "left")


def test_an_older_answer_from_elsewhere_changes_nothing(running):
    running.record("3", "ls", "label", "left", key="annotation 7", at=100.0)
    running.record("3", "ls", "label", "right", key="annotation 7", at=200.0)
    late = running.record("3", "ls", "label", "left", key="annotation 7", at=100.0)  # a retry
    assert late.repeated and late.value == "right"
    assert [r["label"] for r in running.export()] == ["right"]
    running.record("3", "ls", "skip", key="annotation 7", at=300.0)  # deleted there
    assert running.export() == []
    with pytest.raises(errors.Conflict, match="another item"):
        running.record("4", "ls", "label", "left", key="annotation 7")


# --- several answers an item


@pytest.mark.slow
def test_two_answers_an_item_make_a_soft_truth(tmp_path, clock):
    recipe = RECIPE | {"answers": 2, "size": 6}
    recipe["posterior"] = {
        "call": "posteriors.logistic",
        "args": [2],
        "likelihood": {"call": "likelihoods.categorical", "soft": True},
    }
    running = campaign.create(tmp_path / "c.db", X, recipe, clock=clock)
    people = {"ann": lambda r: right(r), "bob": lambda r: right(r), "eve": lambda r: "left"}
    for _ in range(3):
        for _ in range(20):
            for who, says in people.items():
                for ask in running.next(who):
                    running.answer(ask.token, "label", says(ask.row), annotator=who)
        running.step()
    ledger = running.state().ledger
    labels = np.asarray(ledger.labels)[: int(ledger.count)]
    assert labels.shape[1] == 2 and int(ledger.count) >= 18
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)
    truth = [int(X[r, 0] > 0) for r in ledger.rows()]
    assert np.mean(labels.argmax(axis=1) == truth) > 0.85
    state = running.state()
    sql(running, "update rounds set state = null")
    assert same(running.state(), state)
    persons = {p.annotator: p for p in running.progress().people}
    assert persons["ann"].agreement.total > 0


@pytest.mark.slow
def test_an_answered_item_is_asked_again_where_that_tells_more(tmp_path, clock):
    recipe = RECIPE | {"again": 0.2, "num_draws": 16}
    running = campaign.create(tmp_path / "c.db", X, recipe, clock=clock)
    says = {"ann": right, "bob": right, "eve": lambda row: "left"}
    again = set()
    for _ in range(5):
        for _ in range(12):
            for who, say in says.items():
                for ask in running.next(who):
                    running.answer(ask.token, "label", say(ask.row), annotator=who)
        running.step(force=True)
        labeled = set(running.state().ledger.rows().tolist())
        again |= {ask.row for ask in running.asked()} & labeled
        for ask in running.next("ann", 6):  # nobody is asked twice about one item
            said = [r["answers"] for r in running.export() if r["row"] == ask.row]
            assert all(a["annotator"] != "ann" for answers in said for a in answers)
    assert again
    assert any(len(record["answers"]) > 1 for record in running.export())
    state = running.state()
    sql(running, "update rounds set state = null")
    assert same(running.state(), state)


def test_a_batch_that_everybody_here_has_seen_ends_the_round(running):
    bob = running.next("bob")[0]
    running.answer(bob.token, "label", right(bob.row))  # there is a second annotator, who leaves
    while asks := running.next("ann"):
        running.answer(asks[0].token, "abstain")
    assert running.due().ready
    running.step()
    assert {ask.row for ask in running.next("ann", 9)}


# --- figures and files


def test_progress_counts_what_the_net_called_right_before_it_knew(running):
    answered(running)
    running.step()
    answered(running)
    running.step()
    report = running.progress()
    assert report.round == 2 and report.answers == 8 == report.kinds["label"]
    assert report.rounds[0].called.total == 0  # no net had seen a label
    called = report.rounds[1].called
    assert called.total == 4 and 0 <= called.low <= called.share <= called.high <= 1
    assert sum(report.classes.values()) == 8
    assert report.per_hour is None  # the clock stands still


def test_export(running, tmp_path):
    rows = answered(running)
    records = running.export(tmp_path / "out.jsonl")
    assert [r["row"] for r in records] == sorted(rows)
    assert all(r["label"] == right(r["row"]) and r["weight"] == 1 for r in records)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records
    running.export(tmp_path / "out.csv")
    head, *body = (tmp_path / "out.csv").read_text().splitlines()
    assert head == "id,row,label,weight,kind,settled,answers,annotators"
    assert body[0] == f"{min(rows)},{min(rows)},{right(min(rows))},1.0,label,True,1,ann"
    with pytest.raises(errors.BadPath, match="must end in"):
        running.export(tmp_path / "out.xlsx")


def test_real_numbers(tmp_path):
    recipe = {
        "size": 4,
        "spare": 0,
        "posterior": "posteriors.linear",
        "strategy": "variance",
        "first": "k_center",
    }
    running = campaign.create(tmp_path / "c.db", X, recipe, clock=Clock())
    for _ in range(2):
        for ask in running.next("ann", 4):
            running.answer(ask.token, "label", float(X[ask.row] @ [2.0, 1.0]))
        assert running.step() is not None
    record = running.export()[0]
    assert record["label"] == pytest.approx(float(X[record["row"]] @ [2.0, 1.0]), abs=1e-5)
    ask = running.next("ann")[0]
    receipt = running.answer(ask.token, "label", 3)
    assert len(receipt.belief) == 2  # mean and standard deviation
    for value in ("left", None, True, float("nan"), 10**400):
        with pytest.raises(errors.WrongLabel, match="finite number"):
            running.answer(running.next("ann")[0].token, "label", value)


@pytest.mark.parametrize("beliefs", ["before", "after", "never"])
def test_when_beliefs_are_shown(tmp_path, clock, beliefs):
    running = campaign.create(tmp_path / "c.db", X, RECIPE | {"beliefs": beliefs}, clock=clock)
    answered(running)
    running.step()
    ask = running.next("ann")[0]
    receipt = running.answer(ask.token, "label", right(ask.row))
    assert (ask.belief is not None) == (beliefs == "before")
    assert (receipt.belief is not None) == (beliefs != "never")


def test_bearers(running):
    bearer = running.invite("ann")
    assert running.who(bearer) == "ann"
    assert running.who(bearer + "x") is running.who("") is running.who(None) is None
    other = running.invite("ann")
    assert running.who(bearer) is None and running.who(other) == "ann"
    assert bearer not in json.dumps(sql(running, "select * from annotators"))
