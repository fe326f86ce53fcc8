"""Metrics: pure functions, each with protocol and source, and thin torchmetrics classes of them.

`probe` and `clustering` measure codes, `latent` their match to the prior, `generation` images, `paths` and `lines`
interpolations; `score` is the headline number, and `novelty` finds copies of training images. `features` has the
judges, and `judges` trains own ones; `catalogue` has all names of results.json. A file of conf/metric adds one class.
"""
