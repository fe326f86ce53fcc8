"""Networks: shapes, initialisation, what they cannot make."""

import math

import pytest
import torch
from torch import nn

from interp_lightning.errors import ConfigError
from interp_lightning.networks.acai import ACAINetwork
from interp_lightning.networks.fast import FastNetwork
from interp_lightning.networks.layers import Bounded


@pytest.mark.parametrize(
    "network",
    [
        ACAINetwork((1, 32, 32), 32, depth=4),
        ACAINetwork((3, 32, 32), 256, depth=4),
        ACAINetwork((1, 32, 32), 64, depth=4, latent_width=2),
        ACAINetwork((1, 64, 64), 7, depth=2, latent_width=1),
        FastNetwork((1, 32, 32), 2, depth=4),
        FastNetwork((3, 64, 64), 33, depth=4),
    ],
)
def test_shapes(network):
    x = torch.randn(3, network.channels, network.size, network.size)
    z = network.encoder()(x)
    assert z.shape == (3, network.latent_dim)
    assert network.decoder()(z).shape == x.shape
    assert network.critic()(x).shape == (3,)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("recipe", [FastNetwork, ACAINetwork])
def test_larger_images_train_a_step(recipe, size, channels):
    torch.manual_seed(0)
    network = recipe((channels, size, size), latent_dim=64, depth=4)
    encoder, decoder = network.encoder(), network.decoder()
    x = 2 * torch.rand(4, channels, size, size) - 1
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    errors = []
    for _ in range(2):
        error = (decoder(encoder(x)) - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in parameters)
        optimizer.step()
        errors.append(error.item())
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("size", "inner"),
    [(32, (16, 4, 4)), (64, (16, 8, 8)), (72, (16, 9, 9)), (96, (32, 6, 6)), (128, (32, 8, 8)), (256, (64, 8, 8))],
)
def test_the_fast_networks_linear_layer_stays_small(size, inner):
    network = FastNetwork((1, size, size), latent_dim=2, depth=4)
    assert network.inner_shape == inner
    assert network.decoder()(network.encoder()(torch.zeros(1, 1, size, size))).shape == (1, 1, size, size)


@pytest.mark.parametrize(("latent_dim", "shape"), [(256, (16, 4, 4)), (1024, (64, 4, 4))])
def test_acai_codes_of_colour_images_are_the_papers(latent_dim, shape):
    network = ACAINetwork((3, 32, 32), latent_dim, depth=64)  # ACAI, appendix B: SVHN and CIFAR-10
    assert network.latent_shape == shape


def test_acai_network_is_the_published_one():
    """1×1 convolution; two 3×3 and a pooling per scale; two 3×3. Widths 16, 32, 64, 128 for depth 16."""
    network = ACAINetwork((1, 32, 32), 32, depth=16)
    widths = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0])
        for layer in network.encoder().modules()
        if isinstance(layer, nn.Conv2d)
    ]
    scales = [(16, 16, 3), (16, 16, 3), (16, 32, 3), (32, 32, 3), (32, 64, 3), (64, 64, 3)]
    assert widths == [(1, 16, 1), *scales, (64, 128, 3), (128, 2, 3)]
    widths = [
        (layer.in_channels, layer.out_channels) for layer in network.decoder().modules() if isinstance(layer, nn.Conv2d)
    ]
    assert widths == [(2, 64), (64, 64), (64, 32), (32, 32), (32, 16), (16, 16), (16, 16), (16, 1)]


@pytest.mark.parametrize("network", [ACAINetwork((1, 32, 32), 32), FastNetwork((1, 32, 32), 32)])
def test_initialisation_keeps_the_scale_of_activations(network):
    torch.manual_seed(0)
    for part in (network.encoder(), network.decoder()):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.in_channels * math.prod(layer.kernel_size)
                if layer.weight.numel() > 1000:
                    expected = (1 / (1.04 * fan_in)) ** 0.5
                    assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
                assert not layer.bias.any()
    z = network.encoder()(torch.randn(16, 1, 32, 32))
    assert 0.01 < z.std() < 1
    assert 0.01 < network.decoder()(torch.randn(16, 32)).std() < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ACAINetwork((1, 32, 32), 33), r"`latent_dim` \(=33\) must be a multiple of 16"),
        (lambda: ACAINetwork((1, 32, 32), 0), r"`latent_dim` \(=0\) must be ≥ 1"),
        (lambda: ACAINetwork((1, 32, 32), 32, latent_width=3), r"`network.latent_width` \(=3\) must be one of \[16, 8"),
        (lambda: ACAINetwork((1, 32, 32), 32, depth=0), r"`network.depth` \(=0\)"),
        (lambda: FastNetwork((1, 32, 32), 2.5), r"`latent_dim` \(=2.5\)"),
        (lambda: FastNetwork((1, 28, 30), 2), "square"),
        (lambda: FastNetwork((1, 30, 30), 2), "multiple of 8"),
    ],
)
def test_what_a_network_cannot_make(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("part", ["encoder", "decoder", "critic"])
@pytest.mark.parametrize("recipe", [ACAINetwork, FastNetwork])
def test_every_part_is_in_the_memory_format_that_is_fast(recipe, part):
    weights = [p for p in getattr(recipe((1, 32, 32), 16, 4), part)().parameters() if p.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("kind", [FastNetwork, ACAINetwork])
def test_bounded_decoders_stay_in_range(kind):
    codes = 1_000 * torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    free, bounded = (kind((1, 32, 32), latent_dim=32, depth=4, bounded=bound).decoder() for bound in (False, True))
    assert free(codes).abs().max() > 10
    assert bounded.eval()(codes).abs().max() == 1
    assert bounded.state_dict().keys() == free.state_dict().keys()


def test_a_black_pixel_can_still_turn_white():
    x = torch.tensor([-4.0, -0.5, 0.5, 30.0]).requires_grad_()
    (slope,) = torch.autograd.grad(Bounded()(x).sum(), x)
    assert (slope > 0).all()
    assert slope[1:3].tolist() == [1, 1]
