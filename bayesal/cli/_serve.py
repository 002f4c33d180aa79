"""`bayesal serve`: the labeling page of one campaign or several; and a campaign to try it on."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from bayesal import _checks, campaign

DEMO = Path("bayesal-digits") / "campaign.db"
RECIPE = {
    "question": "Which digit is this?",
    "classes": [str(digit) for digit in range(10)],
    "size": 10,
    "strategy": "margin",
    "posterior": {"call": "posteriors.logistic", "args": [10]},
}


def serve(options: Namespace) -> None:
    """Serve campaigns until Ctrl-C; the service prints the start links."""
    if bool(options.stores) == (options.demo is not None):
        options.parser.error("pass stores, or --demo digits alone to try it")
    from bayesal import service  # before a campaign is made

    people, owners = options.annotators or [], options.owners or []
    if options.demo is not None:
        options.stores = [str(digits(DEMO))]
        people = people or ([] if owners else ["you"])
    service.serve(
        options.stores, host=options.host, port=options.port, people=people, owners=owners
    )


def digits(store: Path) -> Path:
    """The campaign on scikit-learn's digits: made once, then continued."""
    if store.exists():
        return store
    with _checks.installed("sklearn", "bayesal[demo]"):
        from sklearn.datasets import load_digits
    store.parent.mkdir(exist_ok=True)
    campaign.create(store, np.float32(load_digits().images / 16), RECIPE)
    print(f"{store} is made: 1,797 digits of 8 x 8 pixels", file=sys.stderr)
    return store
