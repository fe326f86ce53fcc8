"""Compare penalties at codes drawn from the prior: `python -m scripts.penalties` prints the table of docs/penalties.md
and draws docs/penalties.png.

Such codes should cost nothing and be left alone. What a penalty gives there is its bias and its noise.
"""

import time

import torch
from matplotlib.figure import Figure

from interp_lightning.penalties.base import Penalty
from interp_lightning.system.conf import CONF, build, choices, read

SIZES = [(64, 32), (64, 256), (1024, 32)]  # codes in a batch, numbers per code
BATCHES = 20


def measured(penalty: Penalty, n: int, d: int, batches: int = BATCHES) -> tuple[float, float, float, float]:
    """Return weighted means over batches of codes of N(0, I).

    Returns:
        The value; its slope where all codes are stretched, positive if the penalty pulls them together; the norm of its
        gradient; milliseconds for value and gradient.
    """
    generator = torch.Generator().manual_seed(0)
    totals, seconds = torch.zeros(3), 0.0
    for _ in range(batches):
        z, prior = torch.randn(2, n, d, generator=generator)
        z.requires_grad_()
        start = time.perf_counter()
        value = penalty(z, prior)
        (slope,) = torch.autograd.grad(value, z)
        seconds += time.perf_counter() - start
        stretched = (slope.double() * z.detach().double()).sum()
        totals += torch.tensor([value.item(), stretched.item(), slope.norm().item()])
    value, stretched, norm = (penalty.lam * totals / batches).tolist()
    return value, stretched, norm, 1e3 * seconds / batches


def kinds() -> dict[str, Penalty]:
    """Return the penalties that compare codes to the prior, by name, without those that must learn to."""
    found = {}
    for name in choices("penalty"):
        if name not in ("none", "isometric"):
            settings = read(CONF / "penalty" / f"{name}.yaml") | ({"queue": 0} if name == "wasserstein" else {})
            penalty = build(settings)
            if list(penalty.parameters()):
                continue
            found[name] = penalty
            if name == "wasserstein":
                found["wasserstein, unbiased"] = build(settings | {"unbiased": True})
    return found


def table() -> None:
    """Print the table, in Markdown."""
    print(f"| `penalty=` | {' | '.join(f'n = {n}, d = {d}' for n, d in SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for name, penalty in kinds().items():
        cells = []
        for n, d in SIZES:
            value, stretched, norm, milliseconds = measured(penalty, n, d)
            cells.append(f"{1e3 * value:.2g}, {1e3 * stretched:.2g}, {1e3 * norm:.2g}; {milliseconds:.1f} ms")
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def figure(path: str) -> None:
    """Draw bias against n: value, and the pull on the codes' size, of codes that should be left alone."""
    sizes = [32, 64, 128, 256, 512, 1024, 2048]
    drawn = Figure((9, 4.2), layout="constrained")
    panels = drawn.subplots(1, 2)
    for number, (name, penalty) in enumerate(kinds().items()):
        values = torch.tensor([measured(penalty, n, 32, max(16, 6_400 // n)) for n in sizes])
        style = {"color": f"C{number}", "marker": "osD^vPX*<"[number % 9], "markersize": 4, "label": name}
        for panel, column in zip(panels, values[:, :2].T.abs().clamp_min(1e-6), strict=True):
            panel.loglog(sizes, column, **style)
    for panel, title in zip(panels, ("value", "slope where codes are stretched"), strict=True):
        panel.set(title=title, xlabel="codes in a batch, n (d = 32)")
        panel.set_xticks(sizes, map(str, sizes))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("size of the mean, times the default λ")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    drawn.savefig(path, dpi=110)


if __name__ == "__main__":
    torch.set_num_threads(1)
    table()
    figure("docs/penalties.png")
