"""Every setting is checked before long work starts: one sentence, no traceback, no folder of a run that never was."""

import math
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import choices
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from interp_lightning.commands.explain import explain
from interp_lightning.config.check import SETTINGS, check_config
from interp_lightning.config.names import did_you_mean, groups
from interp_lightning.runs.build import build, build_model
from interp_lightning.system.conf import CONF
from interp_lightning.training.callbacks.history import Recorder
from interp_lightning.training.rehearsal import check_size, try_optimizer
from interp_lightning.training.trainer import build_trainer

FILES = {
    "broken.yaml": "penalty: {lam: 1\n",
    "typo.yaml": "# @package _global_\ndefaults:\n  - override /penalty: mmd\npenalty:\n  lamb: 1\n",
    "group.yaml": "# @package _global_\npennalty:\n  lam: 1\n",
    "override.yaml": "# @package _global_\ndefaults:\n  - override /penalti: mmd\n",
    "circle.yaml": "defaults: [circle]\n",
    "null_key.yaml": "# @package _global_\nmodel:\n  null: 3\n",
    "anchor.yaml": "# @package _global_\nmodel: &it\n  lam: *it\n",
    "value.yaml": "# @package _global_\nmodel:\n  gamma: often\n",
}


@pytest.fixture(autouse=True)
def _files(tmp_path) -> None:
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "my_conf" / "experiment" / name).write_text(content)
    (tmp_path / "my_conf" / "penalty").mkdir()
    (tmp_path / "my_conf" / "penalty" / "bytes.yaml").write_bytes(b"\xff\xfe\x00bad")
    (tmp_path / "file").write_text("not a checkpoint")


HUGE = "1" + 400 * "0"
REFUSED = [
    ("model=gaia", "`model` (=gaia) must be one of: acai, ae"),
    (
        "penalty=kl",
        "`penalty` (=kl) must be one of: bhep, cramer_wold,",
    ),
    ("outputs=", "`outputs` (='') must be a folder"),
    ("network=resnet", "`network` (=resnet) must be one of: acai, fast"),
    ("experiment=paper", "`experiment` (=paper) must be one of: aae, acai,"),
    ("logger=null", "must name one of its choices, not null or a number"),
    ("~penalty", "`penalty` is missing"),
    ("~checkpoint.every_minutes", "`checkpoint.every_minutes` is missing"),
    ("checkpoint=3", "`checkpoint` (=3) must be a group of settings: every_minutes"),
    ("penalty.lambda=1", "`penalty.lambda` is no setting of this run"),
    ("+penalty.lamb=1", "`penalty.lamb` is not a setting of penalty=wasserstein; did you mean `penalty.lam`?"),
    ("+penalty.width=9", "`penalty.width` is not a setting of penalty=wasserstein"),
    ("+learning_rate=1", "`learning_rate` is not a setting of this run"),
    ("+checkpoint.minutes=1", "`checkpoint.minutes` is not a setting of this run; did you mean"),
    ("--config-dir my_conf experiment=broken", "is no valid YAML: "),
    (
        "--config-dir my_conf experiment=typo",
        "`penalty.lamb` is not a setting of penalty=mmd; did you mean",
    ),
    ("--config-dir my_conf experiment=group", "`pennalty` is not a setting of this run; did you mean `penalty`?"),
    ("--config-dir my_conf experiment=override", "Could not override 'penalti'"),
    ("--config-dir my_conf experiment=value", "`model.gamma` (='often') must be a finite number ≥ 0 and ≤ 1"),
    ("--config-dir nowhere", "nowhere' not found"),
    ("--config-name nothing", "Cannot find primary config 'nothing'"),
    ("penalty.lam=-1", "`penalty.lam` (=-1) must be ≥ 0; use penalty=none to switch it off"),
    ("penalty.lam=", "`penalty.lam` (='') must be a finite number"),
    ("penalty.lam=inf", "`penalty.lam` (=inf) must be a finite number"),
    ("penalty.lam=true", "`penalty.lam` (=True) must be a finite number"),
    ("penalty.lam=???", "`penalty.lam` (='???') must be a finite number"),
    ("penalty.lam=${nowhere}", "`penalty.lam`: Interpolation key 'nowhere' not found"),
    ("penalty.lam=0.1,1", "Ambiguous value for argument 'penalty.lam=0.1,1'"),
    ("penalty.lam=[1", "no viable alternative"),
    ("penalty.queue=1.5", "`penalty.queue` (=1.5) must be an integer ≥ 0"),
    ("penalty.cov=[[1,2],[3]]", "`penalty.cov` (=[[1, 2], [3]]) must be a square matrix"),
    ("penalty.cov=3", "`penalty.cov` (=3) must be a list, each a list, each a finite number, or null"),
    ("penalty.mean=[0,1]", "`penalty.mean` is for codes of 2 numbers, but `latent_dim` is 32"),
    ("penalty._target_=builtins.dict", "`penalty._target_` (=builtins.dict) must name a subclass of Penalty"),
    ("penalty._target_=nobodys.Nowhere", "No module named 'nobodys'"),
    ("penalty=mmd penalty.scales=[]", "`penalty.scales` (=[]) must be a list of at least 1, each a finite number > 0"),
    ("penalty=mmd penalty.scales={}", "`penalty.scales` (={}) must be a list"),
    ("penalty.mean=abc", "`penalty.mean` (='abc') must be a list, each a finite number, or null"),
    ("schedule=wae schedule.factors={40:1}", "`schedule.factors.40` is not there; +schedule.factors=… adds a key"),
    ("trainer.callbacks=null", "`trainer.callbacks` cannot be set: the run sets it; remove it"),
    ("trainer.gradient_clip_val=1", "`trainer.gradient_clip_val` cannot be set: Lightning does not support it"),
    ("optimizer.eps=1", "`optimizer.eps` is no setting of this run; +optimizer.eps=… passes it to the class in"),
    ("trainer.max_epoch=1", "`trainer.max_epoch` is no setting of this run; did you mean `trainer.max_epochs`?"),
    ("optimizer.betas={a:1}", "`optimizer.betas` (={a:1}) must be a list"),
    ("model=???", "You must specify 'model', e.g, model=<OPTION> Available options: acai ae"),
    ("penalty=mmd penalty.kernel=cauchy", "`penalty.kernel` (='cauchy') must be one of: imq, rbf"),
    ("penalty=gan penalty.width=0", "`penalty.width` (=0) must be ≥ 1"),
    ("model.lam=-1", "`model.lam` (=-1) must be ≥ 0; use model=ae"),
    ("model.gamma=2", "`model.gamma` (=2) must be ≥ 0 and ≤ 1"),
    ("data.batch_size=31", "`data.batch_size` (=31) must be even for model=acai"),
    ("data.batch_size=5000", "`data.batch_size` (=5000) must be ≤ 1257"),
    ("data.fallback=lines", "`data.fallback` (='lines') must be one of: digits, or null"),
    ("latent_dim=0", "`latent_dim` (=0) must be ≥ 1"),
    ("latent_dim=1000000000", "out of memory; use a smaller"),
    ("network=acai latent_dim=33", "`latent_dim` (=33) must be a multiple of 16"),
    ("network=acai network.latent_width=5", "`network.latent_width` (=5) must be one of [16, 8, 4, 2, 1]"),
    ("optimizer.lr=0", "`optimizer.lr` (=0) must be > 0"),
    ("optimizer.betas=[0.9]", "`optimizer.betas` (=[0.9]) must be a list of 2, each a finite number ≥ 0 and ≤ 1"),
    ("optimizer.betas=[0.9,1]", "`optimizer` cannot be set up: Invalid beta parameter"),
    ("+optimizer.decay=1", "unexpected keyword argument 'decay'"),
    ("schedule=wae schedule.factors=3", "`schedule.factors` (=3) must be a mapping"),
    ("seed=-1", "`seed` (=-1) must be ≥ 0 and ≤ 4294967295"),
    ("threads=0", "`threads` (=0) must be an integer ≥ 1 and ≤"),
    ("threads=100000", "`threads` (=100000) must be an integer ≥ 1 and ≤"),
    ("guard=maybe", "`guard` (='maybe') must be one of: stop, skip, rollback"),
    ("name=a/b", "`name` (='a/b') must be the name of a folder, or null"),
    ("name=../x", "`name` (='../x') must be the name of a folder, or null"),
    ("name=..", "`name` (='..') must be the name of a folder, or null"),
    ("name=1", "`name` (=1) must be the name of a folder, or null"),
    ("name=ünï", "requires quotes within quotes"),
    ("outputs=null", "`outputs` (=null) must be a folder"),
    ("logger.name=../zz", "`logger.name` (='../zz') must be the name of a folder"),
    ("logger.version=/tmp/zz", "`logger.version` (='/tmp/zz') must be an integer ≥ 0 or one of:"),
    ("+logger.foo=3", "got an unexpected keyword argument 'foo'"),
    ("model=[acai,ae]", "`model` must be one of its choices, not several"),
    ("+optimizer.amsgrad=maybe", "`optimizer` cannot be set up: _fused_adam_() received an invalid combination"),
    ("+optimizer.foreach=true", "`optimizer` cannot be set up: `fused` and `foreach` cannot be `True` together"),
    ("--experimental-rerun job.pickle", "--experimental-rerun is refused, because it would run code in the file"),
    ("--resolve", "debug=true shows where"),
    ("--config-dir my_conf penalty=bytes", "a configuration file is no text in UTF-8"),
    ("outputs=/dev/null/here", "cannot be written or read (Not a directory); name a folder of yours"),
    ("ckpt_path=nowhere.ckpt", "`ckpt_path` (=nowhere.ckpt) names no checkpoint: there is no such file"),
    ("ckpt_path=file", "file is not a readable checkpoint of this project"),
    ("ckpt_path=last", "`ckpt_path` (=last) names no checkpoint"),
    ("ckpt_path=https://example.com/a.ckpt", "must be `last` or a checkpoint file on this machine, or null; download"),
    ("metrics.features=vgg", "`metrics.features` (='vgg') must be one of: auto, digits, inception, own, or null"),
    ("metrics.steps=1000000", "`metrics.steps` (=1000000) must be ≥ 3 and ≤ 1000"),
    ("metrics.images=1", "`metrics.images` (=1) must be ≥ 2, or null"),
    (
        "trainer.max_epochs=0",
        "`trainer.max_epochs` (=0) must be ≥ 1, or null; to end a run early, use",
    ),
    ("trainer.max_time=long", "`trainer.max_time` (='long') must be a time as DD:HH:MM:SS, or null"),
    ("trainer.devices=0", "`trainer.devices` (=0) must be"),
    ("trainer.devices=2", "`trainer.devices` (=2) and `trainer.num_nodes` (=1) must be 1 unless with trainer=ddp"),
    ("trainer.num_nodes=2", "`trainer.devices` (=1) and `trainer.num_nodes` (=2) must be 1 unless with trainer=ddp"),
    ("trainer.devices=[0,1]", "`trainer.devices` (=[0, 1]) must be an integer ≥ 1, or auto, on a CPU"),
    ("trainer.devices=-1", "`trainer.devices` (=-1) must be an integer ≥ 1, or auto, on a CPU"),
    (
        "trainer.limit_train_batches=0.001",
        "`trainer.limit_train_batches` (=0.001) leaves less than one of 39 batches; use",
    ),
    ("trainer.limit_val_batches=1e-9", "`trainer.limit_val_batches` (=1e-09) leaves less than one of 1 batch; use"),
    ("trainer.strategy=horovod", "`trainer.strategy` (='horovod') must be auto or a mapping"),
    ("trainer.precision=12", "`trainer.precision` (=12) must be one of: 32-true, bf16-mixed"),
    ("+trainer.frobnicate=1", "unexpected keyword argument 'frobnicate'"),
    ("sweep.resume=true", "`sweep.resume` (=true) is for sweeps; add -m, or resume a run by ckpt_path=last"),
    ("sweep=3", "must name one of its choices, not null or a number"),
    ("sweep=lambda", "`sweep` is no setting of this run; +sweep=… chooses a sweep: grid, lambda, penalties"),
    ("+sweep=lamda", "`sweep` (=lamda) must be one of: grid, lambda, penalties; did you mean sweep=lambda?"),
    (
        "sweep.objective=fun",
        "choices, such as score_graph_constant, ",
    ),
    ("sweep.objective=score_grph", "choices; did you mean score_graph or "),
    ("~sweep", "Could not delete 'sweep'"),
    ("sweep.resume=yes,please", "Ambiguous value for argument"),
    ("-m sweep.resume=true", "`sweep.resume` (=true) finds no sweep in outputs/acai_wasserstein; leave it out"),
    ("+trainer.max_steps=9", "`trainer.max_steps` cannot be set: it counts each player's steps; trainer.max_"),
    (
        "+trainer.gradient_clip_val=1",
        "`trainer.gradient_clip_val` cannot be set: Lightning does not support it",
    ),
    ("+trainer.val_check_interval=0", "`trainer.val_check_interval` cannot be set: validation runs at the end"),
    ("+trainer.callbacks=[]", "`trainer.callbacks` cannot be set: the run sets it; remove it"),
    ("trainer.limit_train_batches=1.5", "`trainer` cannot be set up: You have passed invalid value 1.5"),
    ("schedule=wae +schedule.factors.7=0.1", "; add one by +schedule.factors={10: 0.5}"),
    ("hydra/job_logging=disabled penalty.lam=-1", "`penalty.lam` (=-1) must be ≥ 0"),
    ("hydra/job_logging=none penalty.lam=-1", "`penalty.lam` (=-1) must be ≥ 0"),
    ("+trainer._partial_=true", "`trainer._partial_` (=True) cannot be set; remove it"),
    ("+logger._partial_=true", "`logger._partial_` (=True) cannot be set; remove it"),
    ("+model._recursive_=false", "`model._recursive_` cannot be set, as the program sets Hydra's special keys"),
    ("+optimizer._args_=[1]", "`optimizer._args_` cannot be set, as the program sets Hydra's special keys"),
    (
        "optimizer._partial_=false",
        "`optimizer._partial_` (=False) must be true, because the model passes",
    ),
    ("trainer.strategy=ddp_spawn", "`trainer.strategy` (='ddp_spawn') must be auto or a mapping like that of"),
    ("trainer=ddp trainer.strategy.find_unused_parameters=false", "must be auto or a mapping like that of"),
    ("+trainer.min_epochs=3", "`trainer.min_epochs` cannot be set: trainer.max_epochs is the budget"),
    ("seed=" + HUGE, "`seed` (=1000"),
    ("penalty.lam=" + HUGE, "must fit into 64 bits; use a smaller number"),
    ("+optimizer.eps=" + HUGE, "`optimizer.eps` (=1000"),
    ("trainer.max_epochs=" + HUGE[:30], "must fit into 64 bits"),
    ("seed=" + 20 * HUGE, "a number in the settings has thousands of digits"),
    ("-m seed=range(0,0)", "the sweep has no jobs, as a setting has no values"),
    ("-m seed=glob(zzz)", "the sweep has no jobs, as a setting has no values"),
    ("-m seed=choice()", "empty choice is not legal"),
    ("ckpt_path=outputs/lam=0.1/last.ckpt", "requires quotes within quotes"),
    ("--config-dir my_conf experiment=circle", "refers to itself (experiment/circle → experiment/circle); remove"),
    ("--config-dir my_conf experiment=null_key", "has a key that is null or no text; put it in quotes"),
    ("--config-dir my_conf experiment=anchor", "a configuration file refers to itself; remove"),
    ("hydra.verbose=3", "the settings cannot be read: "),
    ("lr=1", "did you mean `optimizer.lr` or `penalty.lr` of penalty=gan"),
    ("lam=1", "did you mean `penalty.lam` or `model.lam` of model=acai|amr|rae|vae|vqvae?"),
    ("epochs=1", "did you mean `trainer.max_epochs` or"),
    ("gpus=1", "did you mean `trainer=gpu`?"),
    ("device=cpu", "did you mean `trainer.devices`?"),
    ("dataset=mnist", "did you mean `data=…`?"),
    ("learning_rate=1", "did you mean `optimizer.lr`"),
    ("modle=ae", "did you mean `model=…`?"),
    ("model=acia", "; did you mean model=acai?"),
    ("debug=maybe", "`debug` (='maybe') must be true or false"),
]


@pytest.mark.parametrize(("command", "sentence"), REFUSED, ids=[command[:60] for command, _ in REFUSED])
def test_bad_invocations_end_in_a_sentence(command, sentence, invoke, tmp_path):
    status, output = invoke(*command.split(), "data=digits", "trainer.accelerator=cpu")
    assert status == 1
    assert sentence in output
    assert "Traceback" not in output
    assert {path.name for path in tmp_path.iterdir()} <= {"my_conf", "file", "output", "outputs"}
    assert not list(tmp_path.glob("outputs/*")), output


def test_options_may_stand_between_settings(invoke):
    status, output = invoke("latent_dim=7", "--cfg", "job", "model=ae", "--config-dir", "my_conf", "seed=3")
    assert status == 0, output
    for line in ("latent_dim: 7", "models.ae.AE", "seed: 3"):
        assert line in output


@pytest.mark.parametrize("program", ["interp_lightning", "interp_lightning compare"])
def test_output_that_nobody_reads(program, tmp_path):
    shell = f"{sys.executable} -m {program} --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_compiling_without_a_compiler(invoke, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    status, output = invoke("compile=true")
    assert status == 1
    assert "`compile` (=true) requires a C++ compiler: g++, clang++, or the one in CXX; install one" in output
    assert not (tmp_path / "outputs").exists()


def test_a_flag_that_there_is_not(invoke):
    status, output = invoke("--frobnicate")
    assert status == 2
    assert "unrecognized arguments: --frobnicate" in output


@pytest.mark.parametrize("command", ["penalty.lam=-1", "model=gaia"])
def test_debug_shows_the_place(command, invoke):
    status, output = invoke("debug=true", command)
    assert status == 1
    assert "Traceback" in output


def test_a_refused_continuation_leaves_the_run_as_it_was(invoke, tmp_path):
    run = tmp_path / "outputs" / "acai_wasserstein" / "before"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_text("damaged")
    status, output = invoke("data=digits", "ckpt_path=last")
    assert status == 1
    assert "last.ckpt is not a readable checkpoint" in output
    assert (run / "checkpoints" / "last.ckpt").read_text() == "damaged"


def leaves() -> list[tuple[str, str]]:
    """Each setting in conf/, with what has to be chosen for it to be there."""
    top = [key for key in OmegaConf.load(CONF / "config.yaml") if key not in ("defaults", "hydra")]
    found = [("", key) for key in top if key != "outputs"]  # which the tests set themselves
    for group in sorted(groups()):
        for choice in choices(group):
            keys = OmegaConf.load(CONF / group / f"{choice}.yaml")
            found += [(f"{group}={choice}", f"{group}.{key}") for key in keys if key not in ("defaults", "_partial_")]
    return found


@pytest.mark.parametrize(("choice", "name"), leaves())
def test_no_setting_takes_everything(choice, name, configure):
    def set_up() -> None:
        cfg = configure(*([choice] if choice else []), f"{name}={{nonsense: [1]}}")
        data = build("data", cfg.data, seed=cfg.seed)
        build_model(cfg, data)
        build_trainer(cfg, data, Path("nowhere"), [Recorder(Path("nowhere"))], None)

    with pytest.raises(Exception, match=name.split(".")[0]):
        set_up()


@pytest.mark.parametrize(
    "name", [name for _, name in leaves() if "_target_" not in name and name not in ("checkpoint", "clip", "sweep")]
)
def test_every_setting_is_found_by_its_last_name(name):
    assert f"`{name}`" in did_you_mean(name.rpartition(".")[2])


HOSTILE = st.recursive(
    st.sampled_from([None, True, -1, 0, 10**400, -(10**400), 2**63, 2**62, 1.5, math.inf, -math.inf, math.nan, 5e-324])
    | st.sampled_from([1e308, "", "odd", "_target_", "${seed}", "1<<2000", "a/../b", "\ud800", b"odd", "\n", "null"]),
    lambda each: (
        st.lists(each, max_size=2)
        | st.dictionaries(st.sampled_from(["_target_", "_partial_", "_args_", "lam", 5, "null"]), each, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(leaves()), value=HOSTILE, beside=st.sampled_from(["", "_partial_", "_convert_", "odd", "5"])
)
def test_any_value_of_any_setting_is_refused_in_a_line_or_can_be_set_up(place, value, beside, composed):
    """Also beside each setting, as a key that there is not."""
    choice, name = place
    config = deepcopy(composed(choice))
    group, _, key = name.rpartition(".")
    (config[group] if group else config)[beside or key] = value
    raised = error_of(config)
    assert raised is None or explain(raised) is not None, repr(raised)
    assert raised is None or explain(raised).count("\n") <= str(value).count("\n")


def error_of(config: dict[str, Any]) -> Exception | None:
    """What goes wrong when a configuration is checked, and all of it set up."""
    try:
        check_config(config, {})
        cfg = OmegaConf.create(config)
        data = build("data", cfg.data, seed=cfg.seed)
        check_size(cfg, data)
        model = build_model(cfg, data)
        model.check(data.batch_size)
        try_optimizer(model)
        build_trainer(cfg, data, Path("nowhere"), [Recorder(Path("nowhere"))], None)
    except Exception as error:
        return error
    return None


@pytest.fixture
def composed(configure) -> Callable[[str], dict[str, Any]]:
    """The configuration of each choice, once."""
    return cache(
        lambda choice: OmegaConf.to_container(
            configure("data=digits", "trainer=cpu", "network.depth=2", *([choice] if choice else [])), resolve=True
        )
    )


def test_the_table_has_settings_that_exist_and_no_setting_of_a_class():
    nested = {"outputs", "checkpoint.every_minutes", "sweep.resume", "sweep.objective"}
    assert set(SETTINGS) <= {name for _, name in leaves()} | nested
    prefixes = {name.partition(".")[0] for name in SETTINGS if "." in name}
    assert prefixes == {"checkpoint", "logger", "optimizer", "sweep", "trainer"}


@pytest.mark.parametrize("argument", ["+penalty.lamb=1", "trainer.precision=12", "threads=0"])
def test_a_wrong_name_and_the_trainers_values_are_answered_without_torch(argument, tmp_path):
    code = (
        "import sys\nfrom interp_lightning.commands.train import main\n"
        f"sys.argv[1:] = [{argument!r}, 'outputs={tmp_path}']\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AssertionError" not in done.stderr
    assert f"`{argument.lstrip('+').partition('=')[0]}`" in done.stderr
