"""The thin torchmetrics classes: in pieces and over devices they say what their functions say of everything."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torchmetrics import Metric

from interp_lightning.metrics.along import FIDAlong, fid_along
from interp_lightning.metrics.alpha import AlphaTest, alpha_r2
from interp_lightning.metrics.base import References, Seen
from interp_lightning.metrics.clustering import ClusteringAccuracy, clustering_accuracy
from interp_lightning.metrics.cycle import CycleError, cycle_error
from interp_lightning.metrics.generation import (
    DensityCoverage,
    GenerationQuality,
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from interp_lightning.metrics.latent import LatentMatch, latent_mmd, latent_w2
from interp_lightning.metrics.lines import LineEvaluation, line_evaluation
from interp_lightning.metrics.paths import (
    Monotonicity,
    PathEvenness,
    PathLength,
    Realism,
    confident,
    detour,
    entropy,
    evenness,
    monotonicity,
    path_energy,
)
from interp_lightning.metrics.probe import LinearProbe, linear_probe

N, D, CLASSES, EPSILON = 60, 3, 4, 0.01


def draws(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Z, OTHER = draws(N, D, seed=0), draws(N, D, seed=1)
Y, OTHER_Y = torch.arange(N) % CLASSES, torch.arange(N) // 3 % CLASSES
PATHS, IMAGES, LOGITS = draws(N, 5, D, seed=2), draws(6, 4, 16, 16, seed=3), 5 * draws(N, CLASSES, seed=4)


ALPHA, MIXTURES = draws(N, seed=5), draws(N, 1, 8, 8, seed=6)


def seen(part: slice) -> Seen:
    return Seen(PATHS[part], None, References(Z, OTHER, PATHS[part][:, [0, -1]]))


def codes(metric: Metric, part: slice) -> None:
    metric.update(Z[part], Y[part], "train")
    metric.update(OTHER[part], OTHER_Y[part], "test")


def generated(metric: Metric, part: slice) -> None:
    metric.update(Z[part], real=True)
    metric.update(OTHER[part], real=False)


# By name: the metric, how it is given a part of everything, and what it must say of everything.
CASES = {
    "probe": (lambda: LinearProbe(CLASSES), codes, lambda: [linear_probe(Z, Y, OTHER, OTHER_Y, CLASSES)]),
    "clustering": (
        lambda: ClusteringAccuracy(CLASSES, restarts=5),
        codes,
        lambda: [clustering_accuracy(Z, OTHER, OTHER_Y, CLASSES, restarts=5)],
    ),
    "latent": (LatentMatch, codes, lambda: [latent_w2(OTHER), latent_mmd(OTHER)]),
    "generation": (
        GenerationQuality,
        generated,
        lambda: [frechet_distance(Z, OTHER), kernel_distance(Z, OTHER), *precision_recall(Z, OTHER)],
    ),
    "density": (DensityCoverage, generated, lambda: density_coverage(Z, OTHER)),
    "cycle": (
        CycleError,
        lambda metric, part: metric.update(PATHS[part], PATHS.flip(1)[part]),
        lambda: [cycle_error(PATHS, PATHS.flip(1))],
    ),
    "along": (
        FIDAlong,
        lambda metric, part: metric.update(seen(part)),
        lambda: [fid_along(PATHS, Z).mean().item(), fid_along(PATHS, Z).amax().item()],
    ),
    "alpha": (
        AlphaTest,
        lambda metric, part: metric.update(MIXTURES[part], ALPHA[part]),
        lambda: [alpha_r2(MIXTURES, ALPHA)],
    ),
    "monotonicity": (
        Monotonicity,
        lambda metric, part: metric.update(PATHS[part]),
        lambda: [monotonicity(PATHS).mean().item()],
    ),
    "evenness": (
        PathEvenness,
        lambda metric, part: metric.update(PATHS[part]),
        lambda: [evenness(PATHS).mean().item(), detour(PATHS).mean().item()],
    ),
    "length": (
        PathLength,
        lambda metric, part: metric.update(Z[part], OTHER[part], EPSILON),
        lambda: [path_energy(Z, OTHER, EPSILON).mean().item()],
    ),
    "realism": (
        Realism,
        lambda metric, part: metric.update(LOGITS[part]),
        lambda: [confident(LOGITS).mean().item(), entropy(LOGITS).mean().item()],
    ),
    "lines": (LineEvaluation, lambda metric, part: metric.update(IMAGES[part]), lambda: line_evaluation(IMAGES)),
}


def values(metric: Metric) -> list[float]:
    return [value.item() for value in metric.compute().values()]


@pytest.mark.parametrize("name", CASES)
def test_in_pieces_and_after_a_reset(name):
    make, update, expected = CASES[name]
    metric = make()
    for part in (slice(0, 2), slice(2, 3), slice(3, None)):
        update(metric, part)
    assert values(metric) == pytest.approx(expected(), rel=1e-9)
    metric.reset()
    update(metric, slice(None))
    assert values(metric) == pytest.approx(expected(), rel=1e-9)


def worker(rank: int, address: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found = {}
    for name, (make, update, _) in CASES.items():
        metric = make()
        # Unequal shares, in the order of the whole.
        update(metric, slice(0, 4) if rank == 0 else slice(4, None))
        found[name] = values(metric)
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def test_over_two_devices(tmp_path: Path):
    mp.spawn(worker, (f"file://{tmp_path}/store", str(tmp_path)), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, (_, _, expected) in CASES.items():
            assert found[name] == pytest.approx(expected(), rel=1e-9), name
