"""Who proposes the better hyperparameters? Our proposers beside those of optuna, in the same
learner, on the same folds.

    pip install -e '.[peers]' && python -m experiments.proposers          # ten seeds: some minutes
    a proposer

The rounds, the space and the learner of `experiments.retuning`: digits, 20 to 1,000 labels in
fourteen rounds, each round the incumbent and seven proposals raced over the folds. Only who
proposes differs: points at random, `nearby`, `surrogate`, and optuna's TPE and Gaussian process.
Those are told the last 128 candidates, their losses less the median of their round in units of its
spread, as `surrogate` is; not what it also uses: how old a round is, how many folds a candidate has
seen, which differences are noise of one round, and who the incumbent is. optuna runs on the host,
called from within the round's compiled program.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import networks, posteriors, retune
from bayesal.retune import _spaces as spaces
from bayesal.retune._proposers import recent
from experiments import retuning, runs, screen

OPTUNA = ("tpe", "gp")


def sampler(name: str, seed: int):
    """One of optuna's samplers, for several trials at a time."""
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
    return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)


def by_optuna(name: str, make: Callable = sampler) -> retune.Proposer:
    """A sampler of optuna behind `ask`: a study of what the history holds, made anew each time, so
    that a round depends on its key and its state alone.
    """

    def on_host(seed, units, values, valid, size):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        axes = {
            f"u{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(units.shape[1])
        }
        study = optuna.create_study(sampler=make(name, int(seed)))
        for point, value in zip(
            np.asarray(units)[np.asarray(valid)][::-1],
            np.asarray(values)[np.asarray(valid)][::-1],
            strict=True,
        ):
            params = dict(zip(axes, map(float, np.clip(point, 0, 1)), strict=True))
            study.add_trial(
                optuna.create_trial(params=params, distributions=axes, value=float(value))
            )
        return np.array([list(study.ask(axes).params.values()) for _ in range(size)], np.float32)

    def ask(key, history, space, incumbent, size):
        del incumbent
        seen = recent(history, space)
        shape = jax.ShapeDtypeStruct((size, len(spaces.searched(space))), jnp.float32)
        seed = jax.random.randint(key, (), 0, np.iinfo(np.int32).max)
        return jax.pure_callback(
            lambda *args: on_host(*args, size), shape, seed, seen.units, seen.values, seen.valid
        )

    return retune.Proposer(ask)


def at_random() -> retune.Proposer:
    """Points of the whole space; nothing is learned."""
    return retune.Proposer(
        lambda key, history, space, incumbent, size: jax.random.uniform(
            key, (size, len(spaces.searched(space)))
        )
    )


PROPOSERS = {
    "random": at_random,
    "nearby": retune.local_proposer,
    "surrogate": retune.gp_proposer,
} | {f"optuna, {name}": lambda name=name: by_optuna(name) for name in OPTUNA}


def main(config: retuning.Config, names: tuple[str, ...], out: Path) -> list[dict]:
    """Every proposer with every seed; what it gains on random points, and its price."""
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (config.hidden,)))
    folder, records = runs.Folder(out, config), []
    if any(name.startswith("optuna") for name in names):
        folder.write({"kind": "versions", "optuna": metadata.version("optuna")})
    for name in names:
        arm = retuning.Arm(
            config,
            posterior,
            retune.successive_halving(8, retuning.space(config), proposer=PROPOSERS[name]()),
        )
        for seed in range(config.seeds):
            for record in arm(name, retuning.load(config, seed), seed):
                folder.write(record)
                records.append(record)
        screen.say(f"{name}: done")
    report(config, records, names, folder)
    return records


def report(
    config: retuning.Config, records: list[dict], names: tuple[str, ...], folder: runs.Folder
) -> None:
    """Tempered test NLL of each less that of `surrogate`, paired by seed, and the processor seconds
    of a round, the first apart.
    """
    labels = np.array(retuning.counts(config))
    ranges = {"up to 100 labels": labels <= 100, "400 and more": labels >= 400, "all": labels > 0}
    of = lambda name, figure: retuning.scores(records, [name], figure)[0]
    base = "surrogate" if "surrogate" in names else names[0]
    table = screen.Table(
        title=f"tempered test NLL, nats, less that of {base}: mean (95 %) over seeds"
    )
    for column in ("proposer", *ranges, "NLL", "processor s a round"):
        table.add_column(column, justify="left" if column == "proposer" else "right")
    for name in names:
        nll, seconds = of(name, "nll_tempered"), float(np.median(of(name, "cpu")[:, 1:]))
        gaps = {
            where: runs.paired((nll - of(base, "nll_tempered"))[:, rounds].mean(axis=1))
            for where, rounds in ranges.items()
        }
        folder.write(
            {
                "kind": "summary",
                "strategy": name,
                "less": base,
                "nll": float(nll.mean()),
                "cpu": seconds,
                **gaps,
            }
        )
        table.add_row(name, *map(runs.said, gaps.values()), f"{nll.mean():.4f}", f"{seconds:.2f}")
    screen.console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/proposers"))
    parser.add_argument("--proposers", nargs="+", choices=list(PROPOSERS), default=list(PROPOSERS))
    for field in dataclasses.fields(retuning.Config):
        if isinstance(field.default, int):
            parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out, chosen = given.pop("out"), tuple(given.pop("proposers"))
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(retuning.Config(**given), chosen, out)
