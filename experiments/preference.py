"""How many comparisons does it take to rank wines? BALD over candidate pairs against pairs at
random.

    python -m experiments.preference --data FOLDER          # or BAYESAL_DATA=FOLDER; reads
    wine_preference.npz

Items are 6,497 wines of 12 measurements; a pair's answer is the one with the higher grade (Houlsby
et al. 2011, section 5: a Gaussian process under the preference kernel, closed-form BALD).
Candidates are training pairs; what is reported is Kendall's tau between the latent worth and the
grade of the test wines, and the share of test pairs called rightly. All of it is in `Config`. EPIG,
which asks what an answer tells about random candidate pairs, is estimated from draws; `--scaling
normal` takes the measurements' long tails away.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import bayesal
from bayesal import acquire, plots, posteriors
from bayesal.tasks import preference
from experiments import pictures, runs


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; strategies share candidates and first answers, seed by seed."""

    strategies: tuple[str, ...] = ("uniform", "bald", "epig")
    seeds: int = 10
    candidates: int = 2_000
    first: int = 10
    size: int = 1
    rounds: int = 50
    draws: int = 100
    judged: int = 1_000
    every: int = 5
    steps: int = 40
    learning_rate: float = 1e-2
    scaling: str = "standard"


STRATEGIES = {"uniform": acquire.uniform(), "bald": preference.bald(), "epig": acquire.epig(100)}


def load(folder: str | None, scaling: str = "standard") -> dict[str, np.ndarray]:
    """The file's arrays, with measurements scaled by the training wines: "standard" to mean 0 and
    deviation 1, "normal" to the normal quantile of their rank.
    """
    if folder is None:
        raise SystemExit(
            "Say where the data is: --data FOLDER, or BAYESAL_DATA=FOLDER; the folder holds "
            "wine_preference.npz."
        )
    with np.load(Path(folder) / "wine_preference.npz", allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    train = data["item_x"][~data["is_test_item"]]
    scaled = {
        "standard": lambda x: (x - train.mean(0)) / train.std(0),
        "normal": lambda x: normal_scores(x, train),
    }
    data["item_x"] = scaled[scaling](data["item_x"]).astype(np.float32)
    return data


def normal_scores(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Each measurement as the normal quantile of its rank among the training ones (the middle rank
    of ties): no tails are left.
    """
    ranks = [
        np.searchsorted(column, values, "left") + np.searchsorted(column, values, "right")
        for column, values in zip(np.sort(train, axis=0).T, x.T, strict=True)
    ]
    return stats.norm.ppf((np.stack(ranks, axis=1) + 1) / (2 * len(train) + 2))


def judge(
    state: bayesal.LearnerState, data: dict[str, np.ndarray], wines: np.ndarray
) -> dict[str, float]:
    """Kendall's tau over these test wines, and the share of the test pairs whose winner has the
    higher mean worth.
    """
    worth = np.asarray(preference.utility(state.posterior, data["item_x"]).mean)
    pairs = data["test_pairs"]
    right = (worth[pairs[:, 0]] > worth[pairs[:, 1]]) == data["test_first_wins"]
    return {
        "tau": float(stats.kendalltau(worth[wines], data["item_grade"][wines]).statistic),
        "pairs_right": float(right.mean()),
    }


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Run everything, keep the records, say the medians."""
    data, posterior = load(data_folder, config.scaling), posteriors.preference()
    hparams = bayesal.HParams(learning_rate=config.learning_rate, steps=config.steps)
    capacity = config.first + config.rounds * config.size
    learners = {
        name: bayesal.learner(
            posterior,
            STRATEGIES[name],
            size=config.size,
            capacity=capacity,
            num_draws=config.draws,
            hparams=hparams,
        )
        for name in config.strategies
    }
    folder, records = runs.Folder(out, config), []
    for seed in range(config.seeds):
        random = np.random.default_rng(seed)
        chosen = random.permutation(len(data["train_pairs"]))[: config.candidates]
        x = preference.pairs(jnp.asarray(data["item_x"]), data["train_pairs"][chosen])
        labels = data["train_first_wins"][chosen].astype(np.int32)
        wines = random.permutation(np.flatnonzero(data["is_test_item"]))[: config.judged]
        for name, (init, ask, tell, *_) in learners.items():
            picks = np.arange(config.first)
            state = init(jax.random.key(seed), x)
            for round in range(config.rounds + 1):
                state = tell(state, x, picks, labels[picks])
                if round % config.every == 0:
                    records.append(
                        {
                            "kind": "round",
                            "strategy": name,
                            "seed": seed,
                            "round": round,
                            "labels": int(state.ledger.count),
                        }
                        | judge(state, data, wines)
                    )
                    folder.write(records[-1])
                if round < config.rounds:
                    picks = np.asarray(ask(state, x).indices)
            print(
                f"seed {seed}  {name:8}  {capacity} answers  tau {records[-1]['tau']:.3f}  "
                f"test pairs right {records[-1]['pairs_right']:.3f}",
                flush=True,
            )
    summarize(config, records, folder)
    pictures.save(picture(records), out / "preference.png")
    return records


def summarize(config: Config, records: list[dict], folder: runs.Folder) -> None:
    """Medians and quartiles of tau at some numbers of answers and over all rounds; and the paired
    difference to chance with its interval.
    """
    places = [
        config.first + config.size * config.every * round(config.rounds * share / config.every)
        for share in (0.2, 0.5, 1.0)
    ]
    for place in (*dict.fromkeys(places), None):
        of = lambda name, place=place: np.array(
            [
                np.mean(
                    [
                        r["tau"]
                        for r in records
                        if (r["strategy"], r["seed"]) == (name, seed)
                        and place in (None, r["labels"])
                    ]
                )
                for seed in range(config.seeds)
            ]
        )
        for name in config.strategies:
            taus = of(name)
            low, middle, high = np.percentile(taus, [25, 50, 75])
            gap = runs.paired(taus - of("uniform")) if "uniform" in config.strategies else None
            folder.write(
                {
                    "kind": "summary",
                    "strategy": name,
                    "labels": place or "all",
                    "tau": [low, middle, high],
                    "to_uniform": gap,
                }
            )
            less = (
                f"  less uniform, paired: {runs.said(gap)}, "
                f"{int((taus > of('uniform')).sum())} of {len(taus)} seeds"
                if gap and name != "uniform"
                else ""
            )
            print(
                f"{f'{place} answers' if place else 'all rounds':11}  {name:8}  tau "
                f"{middle:.3f} ({low:.3f}-{high:.3f}){less}",
                flush=True,
            )


def picture(records: list[dict]):
    """Tau against answers, median and quartiles over seeds; and its paired difference to chance
    with 95 % intervals.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12.0, 4.2), layout="constrained")
    answers, taus = pictures.curves(records, "tau")
    plots.learning_curves(taus, left, labels=answers, band="quartiles", metric="tau")
    if "uniform" in taus and len(taus) > 1:
        gaps = {name: tau - taus["uniform"] for name, tau in taus.items() if name != "uniform"}
        plots.learning_curves(gaps, right, labels=answers, metric="tau")
    right.axhline(0, color=pictures.GRAY, lw=1)
    left.set(xlabel="answers", ylabel="test Kendall's tau")
    right.set(xlabel="answers", ylabel="Kendall's tau less that of random pairs")
    return figure


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, STRATEGIES, "runs/preference"))
