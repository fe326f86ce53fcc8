"""What a trained model is worth: the numbers of results.json."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from interp_lightning.data.base import EvaluationLoader, Source, to_unit_range
from interp_lightning.metrics.clustering import clustering_accuracy
from interp_lightning.metrics.probe import linear_probe
from interp_lightning.models.base import Autoencoder


@dataclass(frozen=True)
class Encoded:
    """A whole split as a model sees it."""

    z: Tensor  # (N, d) codes
    labels: Tensor  # (N,)
    error: float  # mean squared error of the reconstructions, images in [−1, 1]


@torch.no_grad()
def encode_all(model: Autoencoder, source: Source) -> Encoded:
    """Encode and decode every image of a split, in order. Leaves the model in evaluation mode."""
    model.eval()
    codes, labels, error = [], [], 0.0
    loader = EvaluationLoader(source, rank=0, world_size=1)
    for images, y in tqdm(loader, desc="Encoding", leave=False, disable=None):
        x = to_unit_range(images).to(model.device)
        z = model.encode(x)
        error += F.mse_loss(model.decode(z), x).item() * len(x)
        codes.append(z)
        labels.append(y.to(model.device))
    return Encoded(torch.cat(codes), torch.cat(labels), error / len(source))


def evaluate(train: Encoded, test: Encoded, classes: int) -> dict[str, float]:
    """Metrics of the test split: reconstruction MSE, probe and clustering accuracy, fitted to the training split."""
    return {
        "reconstruction_mse": test.error,
        "probe_accuracy": linear_probe(train.z, train.labels, test.z, test.labels, classes),
        "cluster_accuracy": clustering_accuracy(train.z, test.z, test.labels, classes),
    }
