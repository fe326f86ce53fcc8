"""Compare penalties at codes drawn from the prior: `python -m scripts.penalties` prints the table of docs/penalties.md.

Such codes should cost nothing and be left alone. What a penalty gives there is its bias and its noise.
"""

import time

import torch

from interp_lightning.penalties.base import Penalty
from interp_lightning.system.conf import CONF, build, choices, read

SIZES = [(64, 32), (64, 256), (1024, 32)]  # codes in a batch, numbers per code
BATCHES = 20


def measured(penalty: Penalty, n: int, d: int) -> tuple[float, float, float, float]:
    """Return weighted means over batches of codes of N(0, I).

    Returns:
        The value; its slope where all codes are stretched, positive if the penalty pulls them together; the norm of its
        gradient; milliseconds for value and gradient.
    """
    generator = torch.Generator().manual_seed(0)
    totals, seconds = torch.zeros(3), 0.0
    for _ in range(BATCHES):
        z, prior = torch.randn(2, n, d, generator=generator)
        z.requires_grad_()
        start = time.perf_counter()
        value = penalty(z, prior)
        (slope,) = torch.autograd.grad(value, z)
        seconds += time.perf_counter() - start
        stretched = (slope.double() * z.detach().double()).sum()
        totals += torch.tensor([value.item(), stretched.item(), slope.norm().item()])
    value, stretched, norm = (penalty.lam * totals / BATCHES).tolist()
    return value, stretched, norm, 1e3 * seconds / BATCHES


def main() -> None:
    """Print the table, in Markdown."""
    torch.set_num_threads(1)
    print(f"| `penalty=` | {' | '.join(f'n = {n}, d = {d}' for n, d in SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for name in choices("penalty"):
        cells = []
        for n, d in SIZES:
            if name in ("none", "gan"):  # nothing, and what its discriminator has learned
                continue
            penalty = build(read(CONF / "penalty" / f"{name}.yaml") | ({"queue": 0} if name == "wasserstein" else {}))
            value, stretched, norm, milliseconds = measured(penalty, n, d)
            cells.append(f"{1e3 * value:.2g}, {1e3 * stretched:.2g}, {1e3 * norm:.2g}; {milliseconds:.1f} ms")
        if cells:
            print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
