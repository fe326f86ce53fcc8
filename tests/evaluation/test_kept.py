"""Fitted paths in a run's folder: used again for the same weights and settings only."""

import copy
import logging
import os

import pytest
import torch
from conftest import call, damage, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp_lightning.commands import interpolate
from interp_lightning.data.digits import Digits
from interp_lightning.evaluation.kept import Kept
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.evaluation.sample import Look
from interp_lightning.models.ae import AE
from interp_lightning.paths.base import Path, Space, named
from interp_lightning.paths.flow import Flow
from interp_lightning.penalties.none import NoPenalty

AGAIN = "it is not used"


@pytest.fixture
def model():
    return small_model(AE, penalty=NoPenalty())


def state(n: int = 3) -> dict[str, torch.Tensor]:
    return {"codes": torch.arange(n, dtype=torch.float32), "nodes": torch.ones(2, 2, dtype=torch.int32)}


def test_what_was_saved_is_loaded(tmp_path, model):
    Kept(tmp_path, model).save(named("graph"), state())
    loaded = Kept(tmp_path, small_model(AE, penalty=NoPenalty())).load(named("graph"))
    assert loaded.keys() == state().keys()
    assert all(
        torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype for name, value in state().items()
    )
    assert Kept(tmp_path, model).load(named("flow")) == {}


def test_other_weights_get_nothing(tmp_path, model, caplog):
    caplog.set_level(logging.INFO)
    Kept(tmp_path, model).save(named("graph"), state())
    with torch.no_grad():
        next(model.decoder.parameters()).view(-1)[0] += 1e-3
    assert Kept(tmp_path, model).load(named("graph")) == {}
    assert AGAIN in caplog.text


def test_other_settings_get_nothing(tmp_path, model):
    path = named("graph")
    Kept(tmp_path, model).save(path, state())
    other = type(path)()
    other.how, other.settings = path.how, {**path.settings, "exponent": 8.0}
    assert Kept(tmp_path, model).load(other) == {}


def test_a_path_that_has_no_name_is_not_kept(tmp_path, model):
    Kept(tmp_path, model).save(type(named("graph"))(), state())
    assert not [*tmp_path.iterdir()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_nothing(tmp_path, model, data):
    store = Kept(tmp_path, model)
    store.save(named("graph"), state())
    file = tmp_path / "paths" / "graph.safetensors"
    damage(file, data)
    loaded = store.load(named("graph"))
    assert loaded == {} or all(torch.equal(loaded[name], value) for name, value in state().items())


def graph_of(distances: str) -> Path:
    path = copy.copy(named("graph"))
    path.settings = {**path.settings, "distances": distances}
    return path


@pytest.mark.parametrize("distances", ["features", "both"])
def test_a_graph_of_a_judges_features_belongs_to_the_judge(distances, tmp_path, model):
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    Kept(tmp_path, model, one).save(graph_of(distances), state())
    assert Kept(tmp_path, model, one).load(graph_of(distances))
    assert not Kept(tmp_path, model, other).load(graph_of(distances))
    assert not Kept(tmp_path, model).load(graph_of(distances))
    Kept(tmp_path, model, one).save(graph_of("codes"), state())
    assert Kept(tmp_path, model, other).load(graph_of("codes"))


GRAPH = {
    "codes": torch.randn(9, 2),
    "places": torch.randn(9, 4),
    "units": torch.ones(2, dtype=torch.float64),
    "lengths": torch.ones(9, 3),
    "nodes": torch.zeros(9, 3, dtype=torch.int32),
}


@pytest.mark.parametrize(
    "forged",
    [
        {"nodes": GRAPH["nodes"] + 9},
        {"nodes": GRAPH["nodes"] - 1},
        {"nodes": torch.zeros(9, 3)},
        {"nodes": torch.zeros(9, 2, dtype=torch.int32)},
        {"lengths": torch.full((9, 3), torch.nan)},
        {"lengths": -torch.ones(9, 3)},
        {"lengths": torch.ones(4, 3), "nodes": GRAPH["nodes"][:4]},
        {"lengths": torch.ones(9, 0), "nodes": GRAPH["nodes"][:, :0]},
        {"codes": torch.full((9, 2), torch.nan)},
        {"codes": torch.ones(9)},
        {"units": torch.ones(1, dtype=torch.float64)},
        {"units": torch.full((2,), torch.nan, dtype=torch.float64)},
        {"codes": torch.ones(0, 2)},
        {"codes": torch.ones(9, 3)},
        {"places": torch.ones(9, 3)},
        {"places": torch.ones(8, 4)},
        {"places": torch.full((9, 4), torch.nan)},
        {"units": torch.ones(2, 2, dtype=torch.float64)},
    ],
)
def test_a_forged_graph_is_made_again(forged, tmp_path, model, caplog):
    store = Kept(tmp_path, model)
    store.save(named("graph"), GRAPH | forged)
    codes = torch.randn(40, 2)
    points = named("graph").fit(Space(codes, store=store)).points(codes[:2], codes[2:4], 5)
    assert points.isfinite().all()
    assert "it is made again" in caplog.text
    assert len(store.load(named("graph"))["codes"]) == 40


@pytest.mark.parametrize("forged", [{"mean": torch.zeros(2)}, {"step": torch.tensor(3)}, {"mean": torch.zeros(())}])
def test_a_forged_flow_is_made_again(forged, tmp_path, model, caplog):
    flow = Flow(epochs=1, width=4, depth=1)
    flow.how = "flow"
    store = Kept(tmp_path, model)
    store.save(flow, forged)
    flow.fit(Space(torch.randn(20, 2), store=store))
    assert "it is made again" in caplog.text
    assert len(store.load(flow)) > 3


@pytest.mark.parametrize("forge", [lambda weights: weights * torch.nan, lambda weights: weights])
def test_a_flow_that_is_not_finite_or_of_other_codes_is_made_again(forge, tmp_path, model, caplog):
    flow = Flow(epochs=1, width=4, depth=1)
    flow.how = "flow"
    store, decode = Kept(tmp_path, model), torch.nn.Linear(2, 3)
    size = 2 if forge(torch.ones(())).isnan() else 5
    flow.fit(Space(torch.randn(20, size), store=store))
    store.save(flow, {name: forge(weights) for name, weights in store.load(flow).items()})
    flow.fit(Space(torch.randn(20, 2), store=store, decode=decode))
    assert "it is made again" in caplog.text
    assert (
        flow.fit(Space(torch.randn(20, 2), store=store, decode=decode)).points(*torch.ones(2, 1, 2), 3).isfinite().all()
    )


def test_a_folder_in_the_way_costs_a_warning_only(tmp_path, model, caplog):
    (tmp_path / "paths" / "graph.safetensors" / "in").mkdir(parents=True)
    store = Kept(tmp_path, model)
    assert store.load(named("graph")) == {}
    store.save(named("graph"), state())
    assert "could not be written" in caplog.text


def test_links_out_of_the_folder_are_not_followed(tmp_path, model):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    run.mkdir()
    os.symlink(outside, run / "paths")
    Kept(run, model).save(named("graph"), state())
    assert not [*outside.iterdir()]


def test_a_graph_is_made_once(tmp_path, model):
    data = Digits(batch_size=64)
    evaluation = Evaluation()
    evaluation.folder = tmp_path
    first = evaluation.path("graph", model, data)
    data.train.images.zero_()  # a second encoding would show
    again = evaluation.path("graph", model, data)
    z = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.points(*z, 5), again.points(*z, 5))


def test_a_flow_that_was_kept_is_measured_without_being_asked_for(tmp_path, model):
    store, path, velocity = Kept(tmp_path, model), named("flow"), {"mean": torch.zeros(4)}
    assert "flow" not in Evaluation()._kinds(store)
    store.save(path, velocity | {"step": torch.tensor(100)})  # of a training that was interrupted
    assert "flow" not in Evaluation()._kinds(store)
    store.save(path, velocity)
    assert "flow" in Evaluation()._kinds(store)
    assert Evaluation(paths=["lerp"])._kinds(store) == ["lerp"]


def test_interpolate_keeps_the_graph_in_the_run(launch):
    run = launch("metrics.features=auto")
    kept = run / "paths" / "graph.safetensors"
    before = kept.stat().st_mtime_ns
    call(interpolate, f"run={run}", "a=3", "b=8")
    assert kept.stat().st_mtime_ns == before
    kept.unlink()
    call(interpolate, f"run={run}", "a=3", "b=8")
    assert kept.exists()
    call(interpolate, f"ckpt={run}/checkpoints/best.ckpt", "a=3", "b=8")
    assert (run / "checkpoints" / "best" / "paths" / "graph.safetensors").exists()


def test_a_path_sees_pixels_in_batches(model):
    """Far more codes than are decoded at once, as a graph with distances in pixels asks for."""
    codes, seen = torch.randn(1_201, 4, generator=torch.Generator().manual_seed(0)), []
    model.decoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.no_grad():
        pixels = Evaluation(features=None)._space(codes, Look(model, None)).decode(codes)
    assert max(seen) < 1_201
    torch.testing.assert_close(pixels, model.decode(codes).flatten(1))
