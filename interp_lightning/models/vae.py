"""model=vae: the β-VAE, alone or with a penalty on the codes of all images together."""

from typing import Annotated, Any, Literal

import torch.nn.functional as F
from torch import Tensor

from interp_lightning.functional.divergences import gaussian_kl
from interp_lightning.models.ae import AE
from interp_lightning.models.base import Pass
from interp_lightning.parameters import WayOut, Weight


class VAE(AE):
    """Variational autoencoder, Kingma and Welling 2013, eq. 7, with the β of Higgins et al. 2017.

    The encoder gives a Gaussian per image, and its KL divergence draws each of them to N(0, I). Everything but training
    uses its mean. A penalty compares the codes of the whole batch to the prior instead, as in InfoVAE (Zhao et al.
    2017, https://arxiv.org/abs/1706.02262). https://arxiv.org/abs/1312.6114

    The reconstruction is a mean over pixels here. With a Gaussian decoder of standard deviation s, images of D numbers
    and weight β, `lam` is 2·s²·β / D.

    Args:
        lam: weight ≥ 0 of the KL divergence, a sum over the code's dimensions.
        posterior: always "gaussian".
        network, penalty, …: see `Autoencoder`.
    """

    def __init__(
        self,
        lam: Annotated[Weight, WayOut("use model=ae for no divergence")] = 0.0005,
        posterior: Literal["gaussian"] = "gaussian",
        **kwargs: Any,
    ) -> None:
        super().__init__(posterior=posterior, **kwargs)
        self.lam = lam

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        assert p.mean is not None
        assert p.variance is not None
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "divergence": self.lam * gaussian_kl(p.mean.float(), p.variance.float()).mean(),
            "penalty": self.penalty.lam * self.divergence(p),
        }
