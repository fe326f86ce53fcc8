"""model=vqvae: an autoencoder whose codes are made of vectors from a codebook."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.divergences import squared_distances
from interp_lightning.models.base import Autoencoder, Pass
from interp_lightning.networks.base import Network
from interp_lightning.parameters import Count, Share, Weight
from interp_lightning.penalties.base import Penalty
from interp_lightning.penalties.none import NoPenalty

ALIVE = 0.01  # images' vectors per step, in the moving average, below which a codebook vector counts as dead
APART = 0.01  # standard deviations of vectors, between those that are moved to the same one


class VQVAE(Autoencoder):
    """Vector-quantised autoencoder, van den Oord et al. 2017, eq. 3 and appendix A: https://arxiv.org/abs/1711.00937.

    A code of d numbers is d/`width` vectors. Each is replaced by the nearest one of the codebook, with the gradient of
    the identity. The codebook follows the encoder: each of its vectors is the moving average of those that it replaces.
    One that replaces hardly any is moved to a vector of the batch, as in Dhariwal et al. 2020, section 3.1
    (https://arxiv.org/abs/2005.00341).

    Args:
        size: number of vectors in the codebook.
        width: numbers per vector, a divisor of `latent_dim`. With network=acai a vector is one place of the code's grid
            if `width` is the number of its channels.
        lam: weight ≥ 0 of the commitment ‖z − q‖², a mean over numbers; β in the paper.
        decay: of the moving averages, in [0, 1].
        paths: between which codes paths lead. "before" quantises every point of a path between the encoder's outputs;
            "after" leads between quantised codes and quantises nothing on the way.
        posterior: always "point".
        network, penalty, …: see `Autoencoder`.

    Raises:
        ConfigError: an argument is not allowed by the signature, `width` does not divide `latent_dim`, or there is a
            penalty, which would compare continuous codes to the prior.
    """

    takes_penalty = False

    def __init__(
        self,
        network: Network,
        penalty: Penalty,
        size: Count = 512,
        width: Count = 2,
        lam: Weight = 0.25,
        decay: Share = 0.99,
        paths: Literal["before", "after"] = "before",
        posterior: Literal["point"] = "point",
        **kwargs: Any,
    ) -> None:
        if not isinstance(penalty, NoPenalty):
            raise ConfigError(
                f"`penalty` (={type(penalty).__name__.lower()}) compares continuous codes to the prior, but those of "
                "model=vqvae are made of vectors from a codebook; use penalty=none"
            )
        if network.latent_dim % width:
            raise ConfigError(f"`model.width` (={width}) must divide latent_dim (={network.latent_dim})")
        super().__init__(network, penalty, posterior, **kwargs)
        self.width, self.lam, self.decay, self.paths = width, lam, decay, paths
        # The averages of how many vectors of a batch each codebook vector replaces, and of their sum.
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, width))

    counts: Tensor
    sums: Tensor

    @property
    def codebook(self) -> Tensor:
        """The vectors, (size, width)."""
        return self.sums / self.counts.clamp_min(torch.finfo(self.counts.dtype).tiny)[:, None]

    def forward(self, x: Tensor) -> Pass:
        generator = self.generator()
        prior = self.draw_prior(len(x), generator)
        z = self.encoder(x)
        if self.training:
            self._learn(self._vectors(self._gathered(z.detach())), generator)
        quantised = z + (self.quantise(z) - z).detach()  # straight through
        return Pass(x=x, z=z, x_hat=self.decoder(quantised), prior=prior)

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "commitment": self.lam * F.mse_loss(p.z, self.quantise(p.z.detach())),
            "penalty": self.penalty.lam * self.divergence(p),
        }

    def critic_losses(self, p: Pass) -> dict[str, Tensor]:
        return {}

    def encode(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        return z if self.paths == "before" else self.quantise(z)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.quantise(z) if self.paths == "before" else z)

    def quantise(self, z: Tensor) -> Tensor:
        """Replace each vector of codes (B, d) by the nearest one of the codebook."""
        codebook = self.codebook
        nearest = _nearest(self._vectors(z.to(codebook)), codebook)
        places = z.shape[1] // self.width
        return codebook[nearest].view(len(z), places, self.width).transpose(1, 2).reshape(z.shape).to(z)

    def _vectors(self, z: Tensor) -> Tensor:
        """Return the vectors of codes: (B, d) → (B · d/width, width). A vector's numbers lie d/width apart."""
        return z.view(len(z), self.width, -1).transpose(1, 2).reshape(-1, self.width)

    @torch.no_grad()
    def _learn(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Move the codebook towards the vectors of the global batch, (M, width), unless they are not finite."""
        vectors = vectors.to(self.sums)
        number, size = len(vectors), len(self.counts)
        picked = self.draw(
            lambda generator: torch.randperm(max(number, size), generator=generator)[:size] % number, generator
        )
        noise = self.draw(lambda generator: torch.randn(self.sums.shape, generator=generator), generator)
        moved = vectors[picked] + APART * vectors.std() * noise.to(vectors)
        dead = self.counts < ALIVE
        counts = torch.where(dead, 1.0, self.counts)
        sums = torch.where(dead[:, None], moved, self.sums)
        nearest = _nearest(vectors, sums / counts[:, None])
        chosen = (nearest[:, None] == torch.arange(len(counts), device=nearest.device)).to(vectors)  # (M, size)
        with torch.autocast(vectors.device.type, enabled=False):
            sums = torch.lerp(chosen.T @ vectors, sums, self.decay)
        counts = torch.lerp(chosen.sum(0), counts, self.decay)
        finite = vectors.isfinite().all()
        self.counts.copy_(torch.where(finite, counts, self.counts))
        self.sums.copy_(torch.where(finite, sums, self.sums))


def _nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest vector of a codebook, in full precision: (M, width), (size, width) → (M,)."""
    with torch.autocast(vectors.device.type, enabled=False):
        return squared_distances(vectors, codebook).argmin(1)
