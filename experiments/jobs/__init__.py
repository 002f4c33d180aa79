"""Eight jobs as people do them, each in a few lines of public names.

`python -m experiments.jobs.own_network`, and so on. `small=True` is what the tests run.
"""
