"""bayesal: what to label next, and how sure a Bayesian net is."""
