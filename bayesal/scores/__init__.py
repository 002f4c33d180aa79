"""Acquisition scores: log-probabilities `[K, *B, C]` of K draws in, one number per point `[*B]` out; higher = more worth labeling."""

from bayesal.scores.classification import bald, entropy, expected_entropy, least_confidence, margin, mean_std, variation_ratio

__all__ = ["bald", "entropy", "expected_entropy", "least_confidence", "margin", "mean_std", "variation_ratio"]
