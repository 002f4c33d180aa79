"""A whole campaign over loopback: three people of stated reliability, and the net between them."""

import threading
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bayesal import campaign, service
from tests.service.server import Client, running

DIGITS = load_digits()
PEOPLE = {"ann": 0.95, "ben": 0.85, "eve": 0.70}
LABELS = 200


def answer(client, reliability, seed, done):
    """Answer until there are labels enough; wrong ones are any other digit."""
    rng = np.random.default_rng(seed)
    while not done():
        asks = client.ask(3)
        if not asks:
            time.sleep(0.05)
        for ask in asks:
            truth = int(DIGITS.target[ask["row"]])
            wrong = rng.uniform() > reliability
            said = (truth + wrong * int(rng.integers(1, 10))) % 10
            sent = {"token": ask["token"], "kind": "label", "value": str(said), "seconds": 1.0}
            assert client.post("answer", sent).status == 200


@pytest.mark.slow
def test_three_people_bring_200_labels_and_the_truth_is_better_than_they_are(tmp_path):
    recipe = {
        "classes": [str(digit) for digit in range(10)],
        "size": 20,
        "answers": 2,
        "posterior": {
            "call": "posteriors.logistic",
            "args": [10],
            "likelihood": {"call": "likelihoods.categorical", "soft": True},
        },
    }
    store = tmp_path / "digits.db"
    made = campaign.create(store, np.float32(DIGITS.data / 16), recipe)
    done = lambda: made.progress().kinds["label"] >= LABELS
    with running(service.app(made)) as port:
        clients = {name: Client(port, "digits", made.invite(name)) for name in PEOPLE}
        crowd = [
            threading.Thread(target=answer, args=(clients[name], share, seed, done))
            for seed, (name, share) in enumerate(PEOPLE.items())
        ]
        for person in crowd:
            person.start()
        for person in crowd:
            person.join(timeout=300)
        assert not any(person.is_alive() for person in crowd)
    made.step(force=True)
    ledger = made.state().ledger
    rows = ledger.rows()
    told = np.asarray(ledger.labels)[: len(rows)].argmax(axis=1)
    truth = DIGITS.target[rows]
    first = {r["row"]: r["answers"][0]["value"] for r in made.export()}
    alone = np.mean([int(first[row]) == digit for row, digit in zip(rows, truth, strict=True)])
    assert len(rows) >= 90 and np.mean(told == truth) > alone
    people = {person.annotator: person for person in made.progress().people}
    assert set(people) == set(PEOPLE)
    assert people["ann"].agreement.share > people["eve"].agreement.share
