"""What a trained model is worth: the same whenever, and in whatever batches, it is measured."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from conftest import on_a_gpu, small_model
from torch import Tensor

from interp_lightning.data.digits import Digits
from interp_lightning.data.lines import Lines
from interp_lightning.data.sources import InMemory, Source
from interp_lightning.data.sprites import Sprites
from interp_lightning.errors import CheckpointError
from interp_lightning.evaluation import measures, sample
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.evaluation.sample import encode_all
from interp_lightning.functional.images import to_unit_range
from interp_lightning.functional.lines import render_lines
from interp_lightning.metrics.catalogue import METRICS, parse
from interp_lightning.metrics.clustering import clustering_accuracy
from interp_lightning.metrics.features import digit_network
from interp_lightning.metrics.generation import frechet_distance
from interp_lightning.metrics.paths import confident, evenness
from interp_lightning.metrics.probe import linear_probe
from interp_lightning.models.ae import AE
from interp_lightning.networks.fast import FastNetwork
from interp_lightning.penalties.none import NoPenalty
from interp_lightning.runs.load import load_run

SMALL = Evaluation(restarts=3, images=200, pairs=6, steps=5)
EVERY_IMAGE = {"fid", "kid", "precision", "recall", "density", "coverage", "realism", "entropy"}
EVERY_PATH = {"score", "ends", "novelty", "evenness", "detour", "monotonicity", "membership", "realism", "entropy"}
KINDS = ("lerp", "slerp", "rescaled")


@pytest.fixture(scope="module")
def model(trained):
    return load_run(trained["acai"]).model


@pytest.fixture(scope="module")
def assessment(model):
    return SMALL(model, Digits(batch_size=64))


def test_the_whole_test_split_is_encoded():
    model, data = small_model(AE, penalty=NoPenalty()), Digits(batch_size=64)
    test = encode_all(model, data.test, decode=True)
    x = to_unit_range(data.test.images)
    with torch.no_grad():
        expected = (model.decode(model.encode(x)) - x).square().mean().item()
    assert test.z.shape == (360, 4)
    assert torch.equal(test.labels, data.test.labels)
    assert test.error == pytest.approx(expected, rel=1e-5)


def test_every_metric_of_every_kind_is_there_and_explained(assessment):
    expected = {"reconstruction_mse", "probe_accuracy", "cluster_accuracy", "latent_w2", "latent_mmd", "alpha_r2"}
    kinds = ("reconstructions", "prior", "prior_mixture", "neighbours", *(f"midpoints_{how}" for how in KINDS))
    expected |= {f"{name}_{kind}" for name in EVERY_IMAGE for kind in kinds}
    expected |= {
        f"{name}_{how}{speed}" for name in EVERY_PATH for how in (*KINDS, "graph") for speed in ("", "_constant")
    }
    expected |= {f"cycle_{how}{speed}" for how in (*KINDS, "graph") for speed in ("", "_constant")}
    expected |= {f"path_length_{how}" for how in KINDS}
    assert set(assessment.metrics) == expected
    sanity = {f"{name}_{kind}" for name in EVERY_IMAGE for kind in ("real", "midpoints_blend", "noise")}
    assert set(assessment.sanity) == sanity | {"judge_accuracy"} | {
        f"{name}_{how}{speed}" for name in EVERY_PATH for how in ("blend", "transport") for speed in ("", "_constant")
    }
    assert all(math.isfinite(value) for value in (assessment.metrics | assessment.sanity).values())
    assert {parse(name)[0] for name in expected | sanity} < set(METRICS.values())


def test_numbers_are_those_of_the_functions_on_images_made_by_hand(model, assessment):
    data = Digits(batch_size=64)
    train, test = encode_all(model, data.train), encode_all(model, data.test)
    metrics = assessment.metrics
    assert metrics["probe_accuracy"] == linear_probe(train.z, train.labels, test.z, test.labels, 10)
    assert metrics["cluster_accuracy"] == clustering_accuracy(train.z, test.z, test.labels, 10, restarts=3)

    order = torch.randperm(360, generator=torch.Generator().manual_seed(0))[:200]
    partner = torch.cat([order[-1:], order[:-1]])
    with torch.no_grad():
        midpoints = model.decode((test.z[order] + test.z[partner]) / 2)
        features, logits = digit_network()(midpoints)
        real, _ = digit_network()(to_unit_range(data.test.images[order]))
        x = to_unit_range(data.test.images)
        along = digit_network()(model.interpolate(x[order[:6]], x[partner[:6]], 5).flatten(0, 1))[0]
    assert metrics["fid_midpoints_lerp"] == pytest.approx(frechet_distance(real, features), rel=1e-4)
    assert metrics["realism_midpoints_lerp"] == pytest.approx(confident(logits).mean().item())
    assert metrics["evenness_lerp"] == pytest.approx(evenness(along.unflatten(0, (6, 5))).mean().item(), rel=1e-4)


def test_real_images_score_best_and_noise_worst(assessment):
    sanity = assessment.sanity
    everything = assessment.metrics | sanity
    for name in ("fid", "kid"):
        values = {key: value for key, value in everything.items() if key.startswith(f"{name}_")}
        assert min(values, key=values.get) == f"{name}_real"
        assert sanity[f"{name}_noise"] > 10 * sanity[f"{name}_midpoints_blend"] > 10 * sanity[f"{name}_real"]
    assert sanity["realism_real"] > 0.9
    assert sanity["realism_midpoints_blend"] < 0.3
    assert sanity["realism_noise"] == sanity["precision_noise"] == 0
    assert sanity["precision_real"] > 0.6
    assert sanity["recall_real"] > 0.6
    assert sanity["entropy_noise"] == pytest.approx(math.log(10), abs=0.1)


def test_measured_twice_the_numbers_are_the_same(model, assessment):
    torch.manual_seed(99)
    again = SMALL(model, Digits(batch_size=32, seed=5))
    assert again.metrics == assessment.metrics
    assert again.sanity == assessment.sanity


def test_the_size_of_batches_does_not_matter(model, assessment, monkeypatch):
    # What suits the memory is no setting of a run's.
    for module in (measures, sample):
        monkeypatch.setattr(module, "BATCH", 37)
    monkeypatch.setattr("interp_lightning.data.loaders.EVAL_BATCH", 41)
    again = SMALL(model, Digits(batch_size=64))
    assert again.metrics == pytest.approx(assessment.metrics, rel=1e-4, abs=1e-4)
    assert again.sanity == pytest.approx(assessment.sanity, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("work", "moved"), [(2e5, "[1-5]"), (1, "0")])
def test_pairs_too_bright_for_optimal_transport_are_left_out_of_it_alone(
    work, moved, model, assessment, monkeypatch, caplog
):
    caplog.set_level("INFO")
    monkeypatch.setattr("interp_lightning.functional.transport.WORK", work)
    fewer = SMALL(model, Digits(batch_size=64))
    assert re.search(f"moves {moved} of 6 pairs", caplog.text)
    assert fewer.metrics == assessment.metrics
    changed = {name for name in assessment.sanity if fewer.sanity.get(name) != assessment.sanity[name]}
    assert changed
    assert all("transport" in name for name in changed)


@on_a_gpu
def test_the_device_does_not_matter(trained, assessment):
    again = SMALL(load_run(trained["acai"]).model.to("cuda"), Digits(batch_size=64))
    assert again.metrics == pytest.approx(assessment.metrics, rel=1e-4, abs=1e-4)


def test_weights_of_other_precisions_are_measured_in_single(trained, assessment):
    model = load_run(trained["acai"]).model.double()
    assert SMALL(model, Digits(batch_size=64)).metrics == assessment.metrics


def test_paths_of_a_double_model_are_those_of_a_single_one(trained):
    data = Digits(batch_size=64)
    x = to_unit_range(data.test.images[:4])
    frames = []
    for dtype in (torch.float32, torch.float64):
        model = load_run(trained["acai"]).model.to(dtype)
        evaluation = Evaluation()
        path, look = evaluation.path("graph", model, data), evaluation.look(model, data)
        frames.append(model.interpolate(*x.to(dtype).chunk(2), 5, path, look).detach())
    torch.testing.assert_close(frames[1].float(), frames[0], atol=0.05, rtol=0)


def test_settings_of_arithmetic_are_left_as_they_were(model):
    torch.set_float32_matmul_precision("high")
    Evaluation(restarts=1, pairs=1, features=None)(model, Digits(batch_size=64))
    assert torch.get_float32_matmul_precision() == "high"


class PerfectLines(AE):
    """Its codes are points on a circle, its images the lines that point there."""

    def encode(self, x: Tensor) -> Tensor:
        pixels, ink = torch.arange(32) - 15.5, (x[:, 0] + 1) / 2
        return F.normalize(torch.stack([(ink * pixels).sum((1, 2)), (ink * -pixels[:, None]).sum((1, 2))], 1))

    def decode(self, z: Tensor) -> Tensor:
        return render_lines(torch.atan2(z[:, 1], z[:, 0])).to(z)


def test_a_model_that_turns_lines_evenly_is_told_from_one_that_does_not():
    perfect = small_model(PerfectLines, penalty=NoPenalty(), latent_dim=2)
    found = Evaluation(restarts=1, pairs=32, steps=16)(perfect, Lines(batch_size=64)).metrics
    assert found["lines_mean_distance_slerp"] < 1e-5
    assert found["lines_smoothness_slerp"] < 5e-3  # a great circle of two dimensions turns evenly
    assert found["lines_smoothness_lerp"] > 10 * found["lines_smoothness_slerp"]  # a straight line does not
    assert found["lines_mean_distance_lerp"] < 1e-5


def test_lines_are_judged_by_lines(trained):
    data = Lines(batch_size=64)
    found = Evaluation(restarts=1, pairs=16, steps=16)(load_run(trained["lines"]).model, data)
    assert found.protocol["features"] is None
    assert found.metrics["lines_mean_distance_lerp"] > 0.01  # hardly trained
    assert found.sanity["lines_mean_distance_blend"] == pytest.approx(6.3e-3, rel=0.5)
    assert found.sanity["lines_smoothness_blend"] == pytest.approx(0.89, abs=0.1)
    assert found.profiles == {}
    assert not any(name.startswith(("fid", "evenness")) for name in found.metrics)


def test_sprites_are_judged_by_sprites():
    torch.manual_seed(0)
    model = AE(network=FastNetwork((3, 32, 32), latent_dim=4, depth=2), penalty=NoPenalty())
    found = Evaluation(restarts=1, pairs=4, steps=8, paths=["lerp"])(model, Sprites(batch_size=64))
    assert found.protocol["features"] is None
    assert found.metrics["sprites_mean_distance_lerp"] > 0.5  # not trained
    assert 0.05 < found.sanity["sprites_mean_distance_blend"] < 0.5
    assert not any(name.startswith("lines") for name in found.metrics)


class FewDigits(Digits):
    """Digits of which only 50 are for testing."""

    def load(self) -> tuple[Source, Source, Source]:
        train, val, test = super().load()
        return train, val, InMemory(test.images[:50], test.labels[:50])


def test_too_few_test_images_leave_metrics_out_and_say_so(model, caplog):
    found = Evaluation(restarts=1, pairs=4, steps=3)(model, FewDigits(batch_size=64))
    assert "50 test images are too few for 64 features, so FID, KID" in caplog.text
    assert "skipped; they require 65" in caplog.text
    assert "reconstruction_mse" in found.metrics
    assert not any(name.startswith(("fid", "evenness")) for name in found.metrics)


def test_a_model_is_left_as_it_was_but_in_evaluation_mode(model):
    state = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    Evaluation(restarts=1, pairs=1, features=None)(model, Digits(batch_size=64))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert not model.training


def test_a_diverged_model_is_refused(trained):
    model = load_run(trained["ae"]).model
    with torch.no_grad():
        next(model.encoder.parameters()).fill_(1e38)
    with pytest.raises(CheckpointError, match=r"NaN or infinite, so training has diverged; go back to an earlier"):
        SMALL(model, Digits(batch_size=64))
