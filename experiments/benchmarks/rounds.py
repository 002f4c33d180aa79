"""What does one round cost, and how long until the first `ask` answers? `python -m
experiments.benchmarks.rounds`

scikit-learn digits, mc_dropout(mlp(64, 10)), BatchBALD of 10 points, 100 draws, capacity 220. Two
learners: one retunes (a population of 8, 3 folds) and fits a temperature, one does neither. Their
rounds take turns in one process; the first round is left out of the medians. Compilations are
counted by JAX's own events. The cold start runs in a fresh process: import, init, tell, ask,
without a compilation cache (JAX's default), while filling one, and with it filled.
"""

import collections
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, FIRST, SIZE, BUDGET = 10, 20, 10, 15.0
KINDS = {"tuned": "population + temperature", "kept": "keep, no temperature"}


def make(kind):
    from bayesal import acquire, calibrate, learner, networks, posteriors, retune

    extras = (
        {
            "retune": retune.successive_halving(),
            "calibrate": calibrate.temperature(),
            "num_folds": 3,
        }
        if kind == "tuned"
        else {"retune": None}
    )
    return learner(
        posteriors.mc_dropout(networks.mlp(64, 10)),
        acquire.batch_bald(),
        size=SIZE,
        capacity=220,
        num_draws=100,
        **extras,
    )


def clock():
    return time.perf_counter(), time.process_time()


def cold(kind, file):
    """In a fresh process: [wall, CPU] seconds of each part, as one line of JSON."""
    parts, last = {}, clock()

    def done(name):
        nonlocal last
        now = clock()
        parts[name], last = [b - a for a, b in zip(last, now, strict=True)], now

    import jax
    import numpy as np

    learner = make(kind)
    data = np.load(file)
    x, y = data["x"], data["y"]
    done("import")
    state = jax.block_until_ready(learner.init(jax.random.key(0), x))
    done("init")
    state = jax.block_until_ready(learner.tell(state, x, np.arange(FIRST), y[:FIRST]))
    done("tell")
    learner.ask(state, x)
    done("ask")
    print(json.dumps(parts))


def cold_starts():
    from sklearn.datasets import load_digits

    print(f"\ntime to the first answer, fresh process: wall (CPU) seconds; budget {BUDGET:.0f} s")
    print(
        f"{'learner':<27}{'cache':<9}"
        + "".join(f"{n:>15}" for n in ("import", "init", "tell", "ask", "total"))
    )
    with tempfile.TemporaryDirectory() as folder:
        import numpy as np

        x, y = load_digits(return_X_y=True)
        np.savez(f"{folder}/digits.npz", x=(x / 16).astype("float32"), y=y.astype("int32"))
        for kind, title in KINDS.items():
            none = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
            cached = none | {
                "JAX_COMPILATION_CACHE_DIR": f"{folder}/{kind}",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
            for cache, env in (("none", none), ("filling", cached), ("warm", cached)):
                command = [
                    sys.executable,
                    "-m",
                    __spec__.name,
                    "cold",
                    kind,
                    f"{folder}/digits.npz",
                ]
                parts = json.loads(
                    subprocess.run(
                        command, env=env, check=True, capture_output=True, text=True
                    ).stdout.splitlines()[-1]
                )
                total = [sum(v) for v in zip(*parts.values(), strict=True)]
                cells = "".join(f"{w:>8.2f} ({c:>4.1f})" for w, c in [*parts.values(), total])
                print(
                    f"{title:<27}{cache:<9}{cells}  "
                    f"{'within' if total[0] <= BUDGET else 'OVER'} {BUDGET:.0f} s",
                    flush=True,
                )


def rounds():
    import jax
    import numpy as np
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    compiled = []

    def listen(event, seconds, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(more.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    learners = {kind: make(kind) for kind in KINDS}
    states, counts = {}, collections.defaultdict(list)
    times, cpu = collections.defaultdict(list), collections.defaultdict(list)

    def timed(kind, verb, run):
        compiled.clear()
        start = clock()
        out = jax.block_until_ready(run())
        wall, used = (b - a for a, b in zip(start, clock(), strict=True))
        times[kind, verb].append(wall)
        cpu[kind, verb].append(used)
        counts[kind, verb].append(list(compiled))
        return out

    warm = jax.random.key(0), jax.block_until_ready(jax.numpy.asarray(x))
    picks = dict.fromkeys(KINDS, np.arange(FIRST))
    for kind, learner in learners.items():
        states[kind] = timed(kind, "init", lambda: learner.init(warm[0], x))  # noqa: B023
    for _ in range(ROUNDS):
        for kind, learner in learners.items():
            states[kind] = timed(
                kind,
                "tell",
                lambda: learner.tell(states[kind], x, picks[kind], y[picks[kind]]),  # noqa: B023
            )
            asked = timed(kind, "ask", functools.partial(learner.ask, states[kind], x))
            picks[kind] = asked.indices

    print(
        f"{ROUNDS} rounds taking turns; ms: median of rounds 2-{ROUNDS}; programs: the "
        "verb's own (expected 1) / tiny others / all after round 1 (0)"
    )
    print(
        f"{'learner':<27}{'verb':<7}{'ms':>9}{'CPU ms':>9}{'ratio':>8}{'programs':>13}  "
        "compiled after round 1"
    )
    own = {"init": "_initialize", "tell": "refit", "ask": "choose"}
    for kind, title in KINDS.items():
        for verb in ("init", "tell", "ask"):
            every, late = ([n for call in counts[kind, verb][at:] for n in call] for at in (0, 1))
            mine = sum(own[verb] in n for n in every)
            cells = f"{'-':>9}{'-':>9}{'-':>8}"  # init runs once
            if verb != "init":
                wall, used, base = (
                    statistics.median(t[1:]) * 1e3
                    for t in (times[kind, verb], cpu[kind, verb], times["kept", verb])
                )
                cells = f"{wall:>9.1f}{used:>9.1f}{wall / base:>8.2f}"
            print(
                f"{title:<27}{verb:<7}{cells}{f'{mine} / {len(every) - mine} / {len(late)}':>13} "
                f" {', '.join(late)}"
            )


def main():
    if sys.argv[1:2] == ["cold"]:
        return cold(*sys.argv[2:4])
    rounds()
    cold_starts()


if __name__ == "__main__":
    main()
