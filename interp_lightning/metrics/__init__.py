"""How good is it? Functions, each with its protocol and source, and thin torchmetrics classes of them.

`probe` and `clustering` judge codes, `latent` their match to the prior, `generation` images, `paths` and `lines`
interpolations; `features` has the networks that look at images, `catalogue` all names of results.json.
"""
