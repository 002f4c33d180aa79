"""How quickly the service answers: alone, while a round is computed, and to many people at once.

python -m experiments.benchmarks.service --answers 5000 --people 8
"""

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from bayesal import campaign

SERVE = """
import sys
from bayesal import service
service.serve(sys.argv[1], port=0, people=sys.argv[2:])
"""
DIGITS = load_digits()


@contextlib.contextmanager
def served(store: Path, people: list[str]) -> Iterator[dict[str, str]]:
    """Start links of a server in a process of its own."""
    command = [sys.executable, "-c", SERVE, str(store), *people]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in people]
        try:
            yield dict(line.strip().split(": ", 1) for line in lines)
        finally:
            process.kill()


class Person(threading.Thread):
    """Somebody who answers until there are answers enough; `times` are seconds of each request."""

    def __init__(self, link: str, left: list[int]) -> None:
        super().__init__()
        self.place, _, self.bearer = link.partition("#token=")
        self.left, self.times = left, {"ask": [], "answer": []}

    def post(self, wire: http.client.HTTPConnection, verb: str, given: dict) -> dict:
        path = "/c/" + self.place.split("/c/")[1] + verb
        head = {"Authorization": f"Bearer {self.bearer}", "Content-Type": "application/json"}
        begun = time.perf_counter()
        wire.request("POST", path, json.dumps(given), head)
        answer = wire.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 200, said
        self.times[verb].append(time.perf_counter() - begun)
        return said

    def run(self) -> None:
        wire = http.client.HTTPConnection(self.place.split("/")[2], timeout=60)
        while self.left[0] > 0:
            asks = self.post(wire, "ask", {"n": 3})["asks"]
            if not asks:
                time.sleep(0.05)
            for ask in asks:
                value = str(DIGITS.target[ask["row"] % len(DIGITS.target)])
                self.post(wire, "answer", {"token": ask["token"], "kind": "label", "value": value})
                self.left[0] -= 1


def measured(answers: int, people: int, size: int) -> dict[str, float]:
    """Milliseconds and answers a second of a campaign on copies of digits."""
    copies = -(-(answers + 2 * size) // len(DIGITS.data))
    pool = np.float32(np.tile(DIGITS.data / 16, (copies, 1)))
    recipe = {
        "classes": [str(digit) for digit in range(10)],
        "size": size,
        "posterior": {"call": "posteriors.logistic", "args": [10]},
    }
    names = [f"p{i}" for i in range(people)]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "campaign.db"
        campaign.create(store, pool, recipe).store.engine.dispose()
        with served(store, names) as links:
            left = [answers]
            crowd = [Person(links[name], left) for name in names]
            begun = time.perf_counter()
            for person in crowd:
                person.start()
            for person in crowd:
                person.join()
            took = time.perf_counter() - begun
        kept = campaign.open(store)
        rows = [record["row"] for record in kept.export()]
        assert len(rows) == len(set(rows)) >= answers
        rounds = kept.due().round
    found = {"answers a second": answers / took, "rounds": rounds}
    for verb in ("ask", "answer"):
        times = np.concatenate([person.times[verb] for person in crowd]) * 1e3
        found |= {f"{verb} p{q}, ms": float(np.percentile(times, q)) for q in (50, 99)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=5000)
    parser.add_argument("--people", type=int, default=8)
    args = parser.parse_args()
    alone = measured(min(args.answers, 300), 1, 10_000 // 20)
    print("one person, no round computed meanwhile:", shown(alone))
    busy = measured(min(args.answers, 600), 1, 20)
    print("one person, a round every 20 answers:", shown(busy))
    crowd = measured(args.answers, args.people, 200)
    print(f"{args.people} people, {args.answers} answers, a round every 200:", shown(crowd))


def shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in found.items())


if __name__ == "__main__":
    main()
