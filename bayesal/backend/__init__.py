"""The door for everyone who brings only numbers: arrays of any library in, row numbers and a
ranking out.

Your model may be torch, scikit-learn or anything else; what comes in is said by name (`log_probs=`,
`probs=`, `logits=`, or a function `predict=`) and by `axes`, never guessed from the values.
"""

from bayesal.backend.choose import METHODS, Method, choose
from bayesal.export import Choice, Ranking

__all__ = ["METHODS", "Choice", "Method", "Ranking", "choose"]
