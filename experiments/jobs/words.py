"""Short texts, with names for classes. `python -m experiments.jobs.words`"""

import numpy as np

import bayesal
from bayesal import acquire, networks, posteriors

WORDS = {
    "praise": "lovely bright warm clever moving funny gentle",
    "complaint": "broken late dull rude noisy cold empty",
    "question": "where when who which how much long",
}


def texts(count, seed):
    """Sentences of four of a class's words among eight that all classes share."""
    random, shared = (
        np.random.default_rng(seed),
        ["the", "a", "of", "and", "film", "food", "room", "was"],
    )
    names = random.choice(list(WORDS), count)
    sentence = lambda name: " ".join(
        random.permutation([*random.choice(WORDS[name].split(), 4), *random.choice(shared, 8)])
    )
    return [sentence(name) for name in names], names


def main(small=False):
    """Accuracy on 300 unseen sentences."""
    sentences, names = texts(1000, 0)
    unseen, answers = texts(300, 1)
    pool, test = (
        np.asarray(networks.hashed(s, length=16, buckets=512)) for s in (sentences, unseen)
    )
    posterior = posteriors.mc_dropout(networks.text(512, 3))
    learner = bayesal.learner(
        posterior, acquire.power(), size=15, classes=list(WORDS), first=acquire.uniform()
    )
    state = learner.init(0, pool)
    for _ in range(2 if small else 5):
        picks = np.asarray(learner.ask(state, pool).indices)
        state = learner.tell(state, pool, picks, names[picks])
    predicted = bayesal.predictive_of(posterior, state).predict(test)
    return float((np.asarray(list(WORDS))[np.asarray(predicted)] == answers).mean())


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
