"""Draw codes from a Gaussian mixture of a model's codes."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp_lightning.functional.codes import some

FITTED = 20_000  # codes that the mixture is fitted to
COMPONENTS = 50
PER_COMPONENT = 4  # codes for each dimension, at least: a component has a full covariance


def mixture_samples(codes: Float[Tensor, "N d"], number: int) -> Float[Tensor, "number d"]:
    """Draw codes from a Gaussian mixture with full covariances that is fitted to codes; the same ones each time.

    Codes need not match the prior for their mixture to be decodable: ex-post density estimation (Ghosh et al. 2020,
    https://arxiv.org/abs/1903.12436, section 4, with 10 components). Fitted by scikit-learn, in seconds, to at most
    20,000 codes, with 50 components, fewer if codes are few for their dimension.

    Args:
        codes: of training images, N ≥ 2.
        number: of draws.

    Example:
        >>> ring = torch.linspace(0, 6.2832, 2_000)
        >>> drawn = mixture_samples(torch.stack([ring.cos(), ring.sin()], dim=1), 100)
        >>> bool(((drawn.norm(dim=1) - 1).abs() < 0.2).all())  # on the ring, which no single Gaussian is
        True
    """
    chosen = some(codes, FITTED).detach().double().cpu().numpy()
    scaler = StandardScaler().fit(chosen)
    components = int(np.clip(len(chosen) // (PER_COMPONENT * codes.shape[1]), 1, COMPONENTS))
    # EM stops when a step gains less than 0.1 nats per code: more steps do not change how samples look.
    mixture = GaussianMixture(components, random_state=0, tol=0.1, reg_covar=1e-4)
    with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # codes that coincide make fewer components
        drawn, _ = mixture.fit(scaler.transform(chosen)).sample(number)
    shuffled = scaler.inverse_transform(np.random.default_rng(0).permutation(drawn))  # sorted by component before
    return torch.from_numpy(shuffled).to(codes)
