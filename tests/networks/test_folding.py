"""Folded layers are the plain ones: in value, in gradient, in their state dict."""

import copy
from collections.abc import Callable

import pytest
import torch
from conftest import IMAGE_SHAPE, on_a_gpu
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from interp_lightning.networks.acai import ACAINetwork
from interp_lightning.networks.base import Network
from interp_lightning.networks.fast import FastNetwork
from interp_lightning.networks.folding import Folding, halve


def same(plain: nn.Module, folded: nn.Module, x: Tensor) -> None:
    """Values and all gradients agree to rounding."""
    x.requires_grad_()
    results = []
    for module in (plain, folded):
        y = module(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        results.append([y, *torch.autograd.grad((weights * y).sum(), [x, *plain.parameters()])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters that are all different, biases too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 4
    return module


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))
def test_each_pair_by_itself(channels, middle, out, height, width):
    x = torch.randn(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for pair in (
        [nn.Conv2d(channels, middle, 1), nn.Conv2d(middle, out, 3, padding=1)],
        [nn.Upsample(scale_factor=2), nn.Conv2d(channels, out, 3, padding=1)],
    ):
        plain = randomise(nn.Sequential(*pair))
        same(plain, Folding(*plain), x.clone())


@given(st.integers(1, 9), st.integers(1, 4), st.integers(2, 9), st.integers(2, 9), st.booleans())
def test_a_convolution_that_halves_images(channels, out, height, width, bias):
    x = torch.randn(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = randomise(nn.Sequential(nn.Conv2d(channels, out, 4, stride=2, padding=1, bias=bias)))
    same(plain, Folding(*plain), x.clone())


def test_a_convolution_that_halves_images_has_second_derivatives():
    conv = randomise(nn.Conv2d(2, 3, 4, stride=2, padding=1))
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, *_: halve(x, conv), (x, *conv.parameters()))


@pytest.mark.parametrize("derivative", [jacrev, jacfwd, hessian, lambda f: vmap(grad(f))])
def test_a_convolution_that_halves_images_has_the_derivatives_of_torch_func(derivative):
    conv = randomise(nn.Conv2d(2, 3, 4, stride=2, padding=1))
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    found, expected = (
        derivative(lambda x, layer=layer: layer(x.reshape(-1, 2, 4, 6)).pow(3).sum())(x)
        for layer in (Folding(conv), conv)
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_a_convolution_that_halves_images_in_half_precision():
    conv = randomise(nn.Conv2d(2, 3, 4, stride=2, padding=1)).float()
    x = torch.randn(2, 2, 4, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = halve(x, conv)
    assert y.dtype == torch.bfloat16
    gradient, exact = (torch.autograd.grad(each.sum(), x)[0] for each in (y, conv(x)))
    torch.testing.assert_close(gradient, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("recipe", [ACAINetwork(IMAGE_SHAPE, 32, 3), FastNetwork(IMAGE_SHAPE, 5, 3)])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_whole_networks(recipe: Network, part, monkeypatch):
    folded = randomise(getattr(recipe, part)())
    plain = nn.Sequential(*folded)
    assert isinstance(folded, Folding)
    assert plain.state_dict().keys() == folded.state_dict().keys()
    x = torch.randn(3, *(IMAGE_SHAPE if part == "encoder" else (recipe.latent_dim,)), dtype=torch.float64)
    same(plain, folded, x)


@on_a_gpu
@pytest.mark.parametrize("recipe", [ACAINetwork(IMAGE_SHAPE, 32, 16), FastNetwork(IMAGE_SHAPE, 32, 16)])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_gpu_computes_the_gradients_of_a_cpu(recipe: Network, part, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = getattr(recipe, part)()
    x = torch.randn(32, *(IMAGE_SHAPE if part == "encoder" else (recipe.latent_dim,)))
    gradients = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        module = copy.deepcopy(network).to(device, dtype)
        y = module(x.to(device, dtype))
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(y)
        gradients.append(torch.autograd.grad((weights * y).sum(), list(module.parameters())))
    for (name, _), one, other in zip(network.named_parameters(), *gradients, strict=True):
        assert (one - other.cpu()).norm() < 1e-4 * one.norm(), name


def test_what_cannot_be_folded_is_left_alone():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for layers in (
        [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)],
        [nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 2, 3, padding=1)],
        [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3)],
        [nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 3, padding=1)],
        [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)],
        [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")],
        [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=2, dilation=2)],
        [nn.Upsample(scale_factor=3), nn.Conv2d(3, 2, 3, padding=1)],
        [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 2, 3, padding=1)],
        [nn.Upsample(scale_factor=2)],
        [nn.Conv2d(3, 4, 1)],
        [nn.Conv2d(3, 4, 4, stride=2)],
        [nn.Conv2d(3, 3, 4, stride=2, padding=1, groups=3)],
        [nn.Conv2d(3, 4, 4, stride=2, padding=1, padding_mode="reflect")],
    ):
        plain = randomise(nn.Sequential(*layers))
        same(plain, Folding(*plain), x.clone())


@pytest.mark.parametrize(
    ("recipe", "found"),
    [
        (ACAINetwork(IMAGE_SHAPE, 32, 2), [nn.Conv2d, nn.Conv2d] + [nn.Upsample, nn.Conv2d] * 3),
        (FastNetwork(IMAGE_SHAPE, 5, 2), [nn.Conv2d] + [nn.Upsample, nn.Conv2d] * 3),
    ],
)
def test_what_can_be_folded_is_found_in_the_networks(recipe: Network, found, monkeypatch):
    networks = nn.Sequential(recipe.encoder(), recipe.decoder())
    layers = [layer for network in networks for layer in network]
    called = []  # both ways have one result, but a folded layer is never called by itself
    for kind in {type(layer) for layer in layers}:

        def noted(layer: nn.Module, x: Tensor, forward: Callable[..., Tensor] = kind.forward) -> Tensor:
            called.append(layer)
            return forward(layer, x)

        monkeypatch.setattr(kind, "forward", noted)
    networks(torch.randn(2, *IMAGE_SHAPE, requires_grad=True))
    assert [type(layer) for layer in layers if layer not in called] == found


class Tenth(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 10


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Tenth(2, 3, 4, stride=2, padding=1)],
        lambda: [nn.Upsample(scale_factor=2), Tenth(2, 3, 3, padding=1)],
        lambda: [Tenth(2, 4, 1), nn.Conv2d(4, 3, 3, padding=1)],
    ],
)
def test_a_class_of_its_own_is_called(layers):
    plain = randomise(nn.Sequential(*layers()))
    same(plain, Folding(*plain), torch.randn(2, 2, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_hooks_are_called(register, layer):
    plain = randomise(
        nn.Sequential(
            nn.Conv2d(2, 3, 4, stride=2, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 3, padding=1)
        )
    )
    called = []
    getattr(plain[layer], register)(lambda *_: called.append(layer))
    Folding(*plain)(torch.randn(2, 2, 8, 8, dtype=torch.float64, requires_grad=True))
    assert called == [layer]


def test_compiled_layers_are_the_plain_ones():
    layers = [nn.Conv2d(1, 3, 1), nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2)]
    halved = nn.Conv2d(2, 3, 4, stride=2, padding=1)
    plain = randomise(nn.Sequential(*layers, nn.Conv2d(4, 2, 3, padding=1), halved))
    compiled = Folding(*plain)
    compiled.compile(fullgraph=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    same(plain, compiled, torch.randn(2, 1, 8, 8, dtype=torch.float64))


def test_evaluation_is_not_compiled():
    def backend(graph: nn.Module, _: object) -> Callable[..., list[Tensor]]:
        return lambda *inputs: [y + 1 for y in graph(*inputs)]  # a true one gives what the plain layers do

    module = Folding(nn.Conv2d(1, 1, 1))
    module.compile(backend=backend)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(module(x), module[0](x) + 1)
    torch.testing.assert_close(module.eval()(x), module[0](x))
