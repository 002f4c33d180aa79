"""Eight seeds of a whole experiment in one program. `python -m experiments.jobs.one_program`"""

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, networks, posteriors, scores


def main(small=False):
    """Accuracy on unseen digits of every seed."""
    images, digits = load_digits(return_X_y=True)
    pool, test = jnp.float32(images[:1297] / 16), jnp.float32(images[1297:] / 16)
    labels, answers = jnp.asarray(digits[:1297]), jnp.asarray(digits[1297:])
    rounds, steps = (2, 100) if small else (5, 600)
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (32,)))
    learner = bayesal.learner(
        posterior,
        acquire.top(scores.margin),
        size=20,
        capacity=20 * (rounds + 1),
        num_draws=20,
        hparams=bayesal.HParams(steps=steps),
    )

    def experiment(key):
        first = jax.random.choice(key, len(pool), (20,), replace=False)
        state = learner.pure.tell(learner.pure.init(key, pool), pool, first, labels[first])
        for _ in range(rounds):
            picks = learner.pure.ask(state, pool).indices
            state = learner.pure.tell(state, pool, picks, labels[picks])
        log_probs = bayesal.predictive_of(posterior, state, 20)(test)
        return jnp.mean(jax.nn.logsumexp(log_probs, axis=0).argmax(-1) == answers)

    seeds = jax.random.split(jax.random.key(0), 2 if small else 8)
    return jax.jit(jax.vmap(experiment))(seeds).tolist()


if __name__ == "__main__":
    print(main())
