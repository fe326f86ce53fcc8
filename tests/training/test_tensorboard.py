"""What TensorBoard shows of a run and of a sweep, read back from its files."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, train_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import _sort_and_reduce_to_hparams_limit

from interp_lightning.metrics.catalogue import title
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.training.logger import Header, logging_to, swept_name
from interp_lightning.training.tensorboard import LAYOUT, TensorBoard

EPOCH = 1257 // 64 * 64  # images
RUN = ["model=acai", "penalty=gan", "trainer.max_epochs=2", "milestones=10", "metrics.features=auto"]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "scalars": 0})
    found.Reload()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train_in(tmp_path_factory.mktemp("tensorboard") / "run", [*TINY, *RUN])


@pytest.fixture(scope="module")
def board(run) -> EventAccumulator:
    return events(run / "tensorboard")


@pytest.mark.pictures
def test_curves_count_images_and_have_more_than_one_point(board):
    names = board.Tags()["scalars"]
    assert {
        "train/autoencoder/reconstruction", "train/critic/alpha", "train/critic/latent_codes",
        "train/gradient_norm/autoencoder", "train/gradient_norm/critic",
        "train/learning_rate/autoencoder", "train/learning_rate/critic", "speed/images_per_second",
        "val/critic/critic_explained", "val/critic/latent_discriminator_spread", "val/autoencoder/penalty",
        "val/penalty/value", "val/penalty/baseline", "interpolation/lerp/realism",
        "interpolation/graph/realism", "interpolation/graph/membership", "interpolation/lerp/fid",
    } <= set(names)  # fmt: skip
    assert "epoch" not in names
    assert all(len(board.Scalars(name)) > 1 for name in names)
    assert [point.step for point in board.Scalars("val/autoencoder/reconstruction")] == [EPOCH, 2 * EPOCH]
    assert board.Scalars("train/critic/alpha")[0].step == 10 * 64
    faded = {point.value for point in board.Scalars("sanity/blend/realism")}
    assert len(faded) == 1


@pytest.mark.parametrize(("images", "steps"), [(None, [0, 64, 128]), (0, [0, 32]), (64, [0, 64, 32])])
def test_a_resumed_run_logs_no_point_twice(images, steps, tmp_path):
    def run(start: int | None, *at: int) -> None:
        logger = TensorBoard(tmp_path, name="tensorboard", version="")
        with logging_to([logger], Header("a run", {}, (), "", start)):
            for step in at:
                logger.log_metrics({"loss": 1.0}, step)
            logger.finalize("success")

    run(None, 0, 64, 128)
    if images is not None:
        run(images, *([0] if images == 0 else []), 32)  # a run from its start shows its first milestone again
    assert [point.step for point in events(tmp_path / "tensorboard").Scalars("loss")] == steps


def test_the_first_curves_are_the_models_own_and_charts_draw_the_baseline_beside_them(board):
    names = sorted(board.Tags()["scalars"])
    assert sorted([*names, *board.Tags()["images"]])[:2] == names[:2]  # as Time Series shows them
    assert names[:2] == ["interpolation/graph/membership", "interpolation/graph/realism"]
    assert not [name for name in names if "blend" in name and not name.startswith("sanity/")]
    for number, cell in (("realism", "realism of midpoints"), ("fid", "FID of midpoints")):
        _, (pattern,) = LAYOUT["Interpolation"][cell]
        drawn = [name for name in names if re.fullmatch(pattern, name)]
        assert {f"sanity/blend/{number}", f"interpolation/lerp/{number}"} <= set(drawn)
        assert all(name.endswith(number) for name in drawn)


@pytest.mark.pictures
def test_pictures_have_a_history(board):
    pictures = {name for name in board.Tags()["images"] if not name.startswith("summary/")}
    assert pictures == {
        *(f"paths/{how}" for how in ("lerp", "slerp", "rescaled", "graph")), "samples/prior",
        "reconstructions/image above reconstruction", "predictions/critic", "predictions/latent_discriminator",
    }  # fmt: skip
    for name in pictures:
        steps = [image.step for image in board.Images(name)]
        assert (len(steps), steps[0], steps[-1]) == (11, 0, 2 * EPOCH)
    assert {f"summary/{name}" for name in ("loss_curves", "path_profile", "paths")} <= set(board.Tags()["images"])


def test_codes_are_shown_beside_the_prior(run, board):
    assert [point.step for point in board.Histograms("latent/numbers, images")][-1] == 2 * EPOCH
    assert len(board.Histograms("latent/lengths, prior")) == 11
    (folder,) = (run / "tensorboard").glob("*/codes of test images")
    labels = (folder / "metadata.tsv").read_text().split()
    assert len(labels) == len((folder / "tensors.tsv").read_text().splitlines()) == 360
    assert (folder / "sprite.png").is_file()


def test_texts_tell_the_configuration_and_what_numbers_mean(run, board):
    (configuration,) = board.Tensors("configuration/text_summary")
    text = configuration.tensor_proto.string_val[0].decode()
    assert text.startswith("acai × gan on digits")
    assert yaml.safe_load(text.partition("\n\n")[2])["penalty"]["r1"] == 0.1
    (results,) = board.Tensors("results/text_summary")
    table = results.tensor_proto.string_val[0].decode()
    assert f"| {title('fid_midpoints_lerp')} |" in table
    assert results.step == 2 * EPOCH


def test_players_stand_side_by_side(board):
    (layout,) = board.Tensors("custom_scalars__config__")
    shown = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0])
    assert [category.title for category in shown.category] == ["Interpolation", "Players", "Training and validation"]


def session(folder: Path) -> tuple[list[str], list[str], dict[str, object]]:
    """The settings and numbers of HPARAMS in their order, and a run's own settings."""
    contents = events(folder).summary_metadata
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG].plugin_data.content)
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG].plugin_data.content)
    assert metadata.SESSION_END_INFO_TAG in contents
    _sort_and_reduce_to_hparams_limit(experiment)  # as TensorBoard does, by name
    own = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    values = {info.display_name: own[info.name] for info in experiment.hparam_infos}
    return [*values], [info.name.tag for info in experiment.metric_infos], values


def test_a_run_is_one_row_of_hparams(run, board):
    settings, numbers, values = session(run / "tensorboard")
    assert settings == ["model", "penalty", "model.lam", "penalty.lam", "latent_dim", "optimizer.lr", "seed"]
    assert values["penalty.lam"] == 0.01
    assert numbers[0] == "interpolation/graph/realism"
    assert set(numbers) <= set(board.Tags()["scalars"])


def test_a_sweep_is_named_and_sorted_by_what_differs(invoke, tmp_path):
    sweep = [*TINY, "trainer.limit_train_batches=2", "network.depth=2,4", "penalty.lam=0.1"]
    status, output = invoke("-m", *sweep, "hydra.sweep.dir=new/sweep")
    assert status == 0, output
    for job, depth in enumerate((2, 4)):
        (file,) = {file.parent for file in Path(tmp_path, f"new/sweep/{job}/tensorboard").rglob("events*")}
        assert file.name == f"depth={depth}"
        settings, _, values = session(file)
        assert settings[:5] == [
            "network.depth",
            "model",
            "penalty",
            "model.lam",
            "penalty.lam",
        ]  # TensorBoard shows five
        assert values["network.depth"] == depth
    job = ["network.depth=4", "ckpt_path=last", "trainer.max_epochs=2", "hydra.run.dir=new/sweep/1"]
    status, output = invoke(*TINY, "trainer.limit_train_batches=2", "penalty.lam=0.1", *job)
    assert status == 0, output
    assert {file.parent.name for file in Path(tmp_path, "new/sweep/1/tensorboard").rglob("events*")} == {"depth=4"}


def test_names_are_short_where_that_is_clear():
    assert swept_name({"penalty.lam": 0.1, "seed": 1}) == "lam=0.1,seed=1"
    assert swept_name({"penalty.lam": 0.1, "model.lam": 1}) == "penalty.lam=0.1,model.lam=1"
    assert swept_name({}) == ""


def test_what_is_shown_changes_no_weight(run, launch):
    silent = launch(*RUN, "milestones=0", "logger=none")
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, silent))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
