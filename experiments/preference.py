"""How many comparisons does it take to rank wines? BALD over candidate pairs against pairs at random.

    python -m experiments.preference --data FOLDER          # or BAYESAL_DATA=FOLDER; reads wine_preference.npz

Items are 6,497 wines of 12 measurements; a pair's answer is the one with the higher grade (Houlsby et al. 2011, section 5: a Gaussian process
under the preference kernel, closed-form BALD). Candidates are training pairs; what is reported is Kendall's tau between the latent
worth and the grade of the test wines, and the share of test pairs called rightly. All of it is in `Config`.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import bayesal
from bayesal import acquire, posteriors, preference
from experiments import runs


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; strategies share candidates and first answers, seed by seed."""

    strategies: tuple[str, ...] = ("uniform", "bald")
    seeds: int = 10
    candidates: int = 2_000
    first: int = 10
    size: int = 1
    rounds: int = 50
    judged: int = 1_000
    every: int = 5
    steps: int = 40
    learning_rate: float = 1e-2


STRATEGIES = {"uniform": acquire.uniform(), "bald": preference.bald()}


def load(folder: str | None) -> dict[str, np.ndarray]:
    """The file's arrays, with measurements standardized on the training wines."""
    if folder is None:
        raise SystemExit("Say where the data is: --data FOLDER, or BAYESAL_DATA=FOLDER; the folder holds wine_preference.npz.")
    with np.load(Path(folder) / "wine_preference.npz", allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    train = data["item_x"][~data["is_test_item"]]
    data["item_x"] = ((data["item_x"] - train.mean(0)) / train.std(0)).astype(np.float32)
    return data


def judge(state: bayesal.LearnerState, data: dict[str, np.ndarray], wines: np.ndarray) -> dict[str, float]:
    """Kendall's tau over these test wines, and the share of the test pairs whose winner has the higher mean worth."""
    worth = np.asarray(preference.worth(state.posterior, data["item_x"]).mean)
    pairs = data["test_pairs"]
    right = (worth[pairs[:, 0]] > worth[pairs[:, 1]]) == data["test_first_wins"]
    return {"tau": float(stats.kendalltau(worth[wines], data["item_grade"][wines]).statistic), "pairs_right": float(right.mean())}


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Run everything, keep the records, say the medians."""
    data, posterior = load(data_folder), posteriors.preference()
    hparams = bayesal.HParams(learning_rate=config.learning_rate, steps=config.steps)
    capacity = config.first + config.rounds * config.size
    learners = {name: bayesal.learner(posterior, STRATEGIES[name], size=config.size, capacity=capacity, hparams=hparams) for name in config.strategies}
    folder, records = runs.Folder(out, config), []
    for seed in range(config.seeds):
        random = np.random.default_rng(seed)
        chosen = random.permutation(len(data["train_pairs"]))[: config.candidates]
        x = preference.pairs(jnp.asarray(data["item_x"]), data["train_pairs"][chosen])
        labels = data["train_first_wins"][chosen].astype(np.int32)
        wines = random.permutation(np.flatnonzero(data["is_test_item"]))[: config.judged]
        for name, (init, ask, tell) in learners.items():
            picks = np.arange(config.first)
            state = init(jax.random.key(seed), x)
            for round in range(config.rounds + 1):
                state = tell(state, x, picks, labels[picks])
                if round % config.every == 0:
                    records.append({"kind": "round", "strategy": name, "seed": seed, "round": round, "labels": int(state.ledger.count)} | judge(state, data, wines))
                    folder.write(records[-1])
                if round < config.rounds:
                    picks = np.asarray(ask(state, x).indices)
            print(f"seed {seed}  {name:8}  {capacity} answers  tau {records[-1]['tau']:.3f}  test pairs right {records[-1]['pairs_right']:.3f}", flush=True)
    summarize(config, records, folder)
    return records


def summarize(config: Config, records: list[dict], folder: runs.Folder) -> None:
    """Medians and quartiles of tau, and the paired difference, at some numbers of answers."""
    places = [config.first + config.size * config.every * round(config.rounds * share / config.every) for share in (0.2, 0.5, 1.0)]
    of = lambda name, place: np.array([r["tau"] for r in records if (r["strategy"], r["labels"]) == (name, place)])
    for place in places:
        for name in config.strategies:
            low, middle, high = np.percentile(of(name, place), [25, 50, 75])
            print(f"{place:4d} answers  {name:8}  tau {middle:.3f} ({low:.3f}-{high:.3f})")
            folder.write({"kind": "summary", "strategy": name, "labels": place, "tau": [low, middle, high]})
        if set(config.strategies) == {"uniform", "bald"}:
            gap = of("bald", place) - of("uniform", place)
            print(f"{place:4d} answers  bald - uniform, paired: {gap.mean():+.3f} +- {gap.std(ddof=1) / len(gap) ** 0.5:.3f} (standard error), {int((gap > 0).sum())} of {len(gap)} seeds")


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, STRATEGIES, "runs/preference"))
