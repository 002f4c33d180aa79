"""Our laws as one call on anybody's function: what a score, a selector, a predictive or a posterior
promises, tried on inputs that broke others.

    report = testing.check_score(my_score, bounds=lambda K, C: (0.0, math.log(min(K, C))))
    print(report)                        # a line per law, with the input that breaks it

Nothing here knows how the function works.
"""

from bayesal.testing._arrays import check_score, check_selector
from bayesal.testing._posterior import check_posterior
from bayesal.testing._predictive import check_predictive
from bayesal.testing._report import LawBroken

__all__ = [
    "LawBroken",
    "check_posterior",
    "check_predictive",
    "check_score",
    "check_selector",
]


def __dir__() -> list[str]:
    return __all__
