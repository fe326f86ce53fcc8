"""Latent clustering: do the classes form clusters by themselves?"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import confusion_matrix
from torch import Tensor


def clustering_accuracy(
    train_z: Tensor, test_z: Tensor, test_y: Tensor, classes: int, restarts: int = 20, seed: int = 0
) -> float:
    """Test accuracy of k-means clusters under the best one-to-one naming of clusters by classes.

    Codes are centred on the training mean, rotated by the training codes' SVD and divided by s + 1e-5; k-means
    starts from random training codes, and the best of all restarts by training inertia counts.
    Protocol: Berthelot et al. 2018, section 4.2, and its published code (which has 1,000 restarts).

    Args:
        train_z, test_z: codes, (n, d) and (m, d).
        test_y: labels in 0 … classes − 1, (m,).
        restarts: of k-means.
        seed: of its starting points.

    Returns:
        Share of test codes in the cluster named by their label, 0 to 1.
    """
    mean = train_z.double().mean(0)
    _, s, vt = torch.linalg.svd(train_z.double() - mean, full_matrices=False)
    # k-means does not care for the common scale √n, its float32 arithmetic does.
    whitening = len(train_z) ** 0.5 * vt.T / (s + 1e-5)
    train_w, test_w = (((z.double() - mean) @ whitening).float().cpu().numpy() for z in (train_z, test_z))

    clusters = KMeans(classes, init="random", n_init=restarts, random_state=seed).fit(train_w).predict(test_w)
    table = confusion_matrix(test_y.cpu().numpy(), clusters, labels=np.arange(classes))
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(test_w))
