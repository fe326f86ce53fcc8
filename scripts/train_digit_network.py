"""Train the digit network that metrics/features.py ships: ten minutes on one thread.

python scripts/train_digit_network.py data        # folder with MNIST/raw
"""

import hashlib
import sys
from itertools import count

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2 import RandomAffine
from tqdm import tqdm

from interp_lightning.data.digits import Digits
from interp_lightning.data.mnist import MNIST
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.features import CLASSES, IMAGE_SHAPE, WEIGHTS, DigitNetwork

EPOCHS, BATCH, LEARNING_RATE = 10, 128, 4e-3
GRAINS = (1, 4, 8, 16, 32)  # cells of noise to a side


def train(root: str) -> DigitNetwork:
    """Train the network on the MNIST files below a folder, and print its test accuracies."""
    torch.manual_seed(0)
    data, others = MNIST(BATCH, root=root), Digits(BATCH // 8)
    network = DigitNetwork().to(memory_format=torch.channels_last)
    jitter = RandomAffine(12, translate=(2 / 32, 2 / 32), scale=(0.9, 1.1), shear=8, fill=-1)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    loader, other_loader = data.train_dataloader(), others.train_dataloader()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * len(loader))
    endless = (batch for _ in count() for batch in other_loader)
    for epoch in range(EPOCHS):
        for batches in tqdm(zip(loader, endless, strict=False), desc=f"Epoch {epoch + 1}/{EPOCHS}", total=len(loader)):
            images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
            # In groups of four, as one call turns all its images alike.
            x = torch.cat([jitter(group) for group in to_unit_range(images).split(4)])
            target = F.one_hot(labels, CLASSES).float()
            share, partner = torch.empty(len(x), 1).uniform_(0.2, 0.8), torch.randperm(len(x))
            blend = share[..., None, None] * x + (1 - share[..., None, None]) * x[partner]
            nothing = no_digits(len(x) // 8)
            wanted = torch.cat([target, share * target + (1 - share) * target[partner]])
            _, logits = network(torch.cat([x, blend, nothing]))
            loss = F.cross_entropy(logits, torch.cat([wanted, torch.full((len(nothing), CLASSES), 1 / CLASSES)]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        for each in (data, others):
            with torch.inference_mode():
                right = [network(to_unit_range(x))[1].argmax(1) == labels for x, labels in each.test_dataloader()]
            print(f"test accuracy on {each.name}: {torch.cat(right).double().mean():.2%}", flush=True)
        network.train()
    network.eval().fit_components(to_unit_range(data.train.batch(torch.arange(10_000))[0]))
    return network


def no_digits(number: int) -> Tensor:
    """Noise of all grains, from one pixel to a whole image of one grey, around any brightness: (number, 1, 32, 32)."""
    grains = [F.interpolate(torch.randn(number, 1, size, size), IMAGE_SHAPE[1:], mode="bilinear") for size in GRAINS]
    grain = torch.stack(grains)[torch.randint(len(GRAINS), (number,)), torch.arange(number)]
    contrast, grey = torch.rand(2, number, 1, 1, 1)
    return (contrast.square() * grain + 3 * grey - 2).clamp(-1, 1)  # a third of the greys are black


if __name__ == "__main__":
    trained = train(sys.argv[1] if len(sys.argv) > 1 else "data")
    save_file({name: value.contiguous() for name, value in trained.state_dict().items()}, WEIGHTS)
    print(f"{WEIGHTS}\nSHA256 = {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()!r}")
