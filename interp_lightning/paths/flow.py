"""how=flow: great circles in the noise of a flow between a Gaussian and the codes."""

import copy
import logging
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from interp_lightning.parameters import Count, Rate, check_integer
from interp_lightning.paths.base import Codes, Course, Path, Points, Positions, Space, Store
from interp_lightning.paths.lerp import Lerp
from interp_lightning.paths.slerp import Slerp
from interp_lightning.paths.velocity import Learning, Velocity

log = logging.getLogger(__name__)

KEEP_EVERY = 100  # steps between two states that a training can resume from: about ten seconds
BATCH = 5_000  # codes that are moved together


class Flow(Path):
    """Great circle between the noise of both ends, moved to codes by a rectified flow.

    A network v learns the velocity at which noise x₀ ~ N(0, I) moves to codes x₁ on straight lines: it minimises
    E‖v((1 − t)·x₀ + t·x₁, t) − (x₁ − x₀)‖². Solving ẋ = v(x, t) forwards makes codes from noise, backwards noise from
    codes. Sources: Liu et al. 2022, https://arxiv.org/abs/2209.03003; Lipman et al. 2022,
    https://arxiv.org/abs/2210.02747.

    The flow is also a sampler of codes. Training is deterministic, and resumes exactly from what a store has kept.

    Args:
        epochs: of training, passes over the codes.
        batch_size: codes in a step; all if there are fewer.
        width: of the hidden layers.
        depth: number of residual blocks.
        lr: highest learning rate; it falls to 0 along a cosine.
        ode_steps: of Heun's method from noise to codes.

    Raises:
        ConfigError: an argument is not allowed by the signature, or `fit` gets fewer than 2 codes.
        Diverged: the loss of `fit` became NaN or infinite.

    Example:
        >>> codes = torch.randn(500, 2) * 0.1 + torch.tensor([5.0, 0.0])
        >>> flow = Flow(epochs=30, batch_size=64, width=32, depth=1).fit(Space(codes))
        >>> bool((flow.sample(torch.randn(100, 2))[:, 0] > 3).all())
        True
    """

    fits: ClassVar[bool] = True
    slow: ClassVar[bool] = True
    samples: ClassVar[bool] = True
    _network: Velocity  # with averaged weights

    def __init__(
        self,
        epochs: Count = 40,
        batch_size: Count = 512,
        width: Count = 512,
        depth: Count = 4,
        lr: Rate = 1e-3,
        ode_steps: Count = 20,
    ) -> None:
        self.epochs, self.batch_size, self.width, self.depth = epochs, batch_size, width, depth
        self.lr, self.ode_steps = lr, ode_steps

    def at_hand(self, store: Store) -> bool:
        return self._is_finished(store.load(self))

    def fit(self, space: Space) -> Path:
        fitted = copy.copy(self)
        fitted.fitted = True
        fitted._network = space.store.use(
            self, lambda state: self._finished(state, space) or self._learned(space, state)
        )
        return fitted

    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        return self.between(z_a, z_b)(t)

    def between(self, z_a: Codes, z_b: Codes) -> Course:
        noise_a, noise_b = self.noise(z_a), self.noise(z_b)
        missed_a, missed_b = z_a - self.sample(noise_a), z_b - self.sample(noise_b)  # by the solver's error

        def course(t: Positions) -> Tensor:
            noise = Slerp()(noise_a, noise_b, t)
            return self.sample(noise.flatten(0, 1)).unflatten(0, noise.shape[:2]) + Lerp()(missed_a, missed_b, t)

        return course

    def sample(self, noise: Codes) -> Codes:
        network = self._network.to(noise.device)
        return torch.cat([network.codes(self._solve(part, 0.0, 1.0)) for part in noise.split(BATCH)])

    def noise(self, z: Codes) -> Codes:
        """Return the noise that the flow moves to codes."""
        network = self._network.to(z.device)
        return torch.cat([self._solve(network.standardised(part), 1.0, 0.0) for part in z.split(BATCH)])

    def _finished(self, state: Mapping[str, Tensor], space: Space) -> Velocity | None:
        """Return the network of a state that a finished training has left; None for any other."""
        if not self._is_finished(state):
            return None
        network = Velocity(len(state["mean"]), self.width, self.depth)
        network.load_state_dict(state)
        with torch.no_grad():
            space.decode(network.mean[None])  # an error if its codes are of another size
        return network.eval().requires_grad_(False)

    def _is_finished(self, state: Mapping[str, Tensor]) -> bool:
        return bool(state) and "step" not in state

    def _learned(self, space: Space, state: Mapping[str, Tensor]) -> Velocity:
        """Train a network, from the state of an interrupted training if there is one."""
        check_integer("the number of training codes", len(space.codes), least=2, way_out="use how=lerp")
        with torch.inference_mode(False), torch.enable_grad():
            codes = space.codes.detach().clone()
            network = Velocity(codes.shape[1], self.width, self.depth).to(codes)
            batch_size = min(self.batch_size, len(codes))
            steps = self.epochs * len(codes) // batch_size
            learning = Learning(network, codes, batch_size, self.lr, steps)
            learning.restore(state)
            if learning.step:
                log.info(f"Training the flow goes on at step {learning.step:,} of {steps:,} …")
            else:
                log.info(f"Training a flow of {len(codes):,} codes, once: {steps:,} steps …")
            with tqdm(desc="Flow", total=steps, initial=learning.step, leave=False, disable=None) as bar:
                while learning.step < steps:
                    learning.take_step()
                    bar.update()
                    if learning.step % KEEP_EVERY == 0:
                        learning.check()
                        space.store.save(self, learning.state())
            learning.check()
        network = learning.averaged.eval().requires_grad_(False)
        space.store.save(self, network.state_dict())
        return network

    def _solve(self, x: Tensor, start: float, end: float) -> Tensor:
        """Solve ẋ = v(x, t) by Heun's method."""
        h = (end - start) / self.ode_steps
        for step in range(self.ode_steps):
            t = torch.full_like(x[:, :1], start + step * h)
            slope = self._network(x, t)
            x = x + h / 2 * (slope + self._network(x + h * slope, t + h))
        return x
