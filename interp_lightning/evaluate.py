"""What a trained model is worth: the numbers of results.json."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.data.base import EvaluationLoader, ImageData, Source, to_unit_range
from interp_lightning.metrics.clustering import clustering_accuracy
from interp_lightning.metrics.probe import linear_probe
from interp_lightning.models.base import Autoencoder


@torch.inference_mode()
def encode_all(model: Autoencoder, source: Source) -> tuple[Tensor, Tensor, float]:
    """Codes (N, d) and labels (N,) of a whole split, and the mean squared error of its reconstruction."""
    codes, labels, error = [], [], 0.0
    for images, y in EvaluationLoader(source, rank=0, world_size=1):
        x = to_unit_range(images).to(model.device)
        z = model.encode(x)
        error += F.mse_loss(model.decode(z), x).item() * len(x)
        codes.append(z)
        labels.append(y.to(model.device))
    return torch.cat(codes), torch.cat(labels), error / len(source)


def evaluate(model: Autoencoder, data: ImageData) -> dict[str, float]:
    """Metrics of a model on the test split: reconstruction MSE (images in [−1, 1]), probe and clustering accuracy.

    Probe and clusters are fitted to the training split. Leaves the model in evaluation mode.
    """
    model.eval()
    train_z, train_y, _ = encode_all(model, data.train)
    test_z, test_y, error = encode_all(model, data.test)
    # Leaving inference mode, since the probe takes gradients.
    train_z, train_y, test_z, test_y = (tensor.clone() for tensor in (train_z, train_y, test_z, test_y))
    return {
        "reconstruction_mse": error,
        "probe_accuracy": linear_probe(train_z, train_y, test_z, test_y, data.classes),
        "cluster_accuracy": clustering_accuracy(train_z, test_z, test_y, data.classes),
    }
