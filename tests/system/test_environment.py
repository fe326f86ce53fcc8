"""Whatever the environment is: streams, encodings, paths, names, files of other kinds, leftover variables, widths."""

import ast
import io
import itertools
import json
import os
import pty
import re
import signal
import socket
import sys
import tempfile
import termios
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import TINY, train_in
from hypothesis import example, given
from hypothesis import strategies as st
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from interp_lightning.commands import compare, evaluate, explore, interpolate, settings
from interp_lightning.commands import train as program
from interp_lightning.config import resolvers
from interp_lightning.config.check import write_out_paths, written_out
from interp_lightning.errors import ConfigError
from interp_lightning.runs import folders
from interp_lightning.system.disk import lock, regular
from interp_lightning.system.table import Column, Row, Table, print_table
from interp_lightning.training.callbacks.progress import Line

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "interp_lightning"
SMALL = [*TINY, "model=ae", "penalty=none"]
SMALL += ["trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.enable_progress_bar=true"]

# How a standard stream may be, and how many bytes arrive.
CLOSED, FULL, FILE = "closed", "full", "file"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the folder of a small run; tests must not write into it."""
    return train_in(tmp_path_factory.mktemp("small") / "run", SMALL)


@pytest.fixture
def start(tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a process of its own, with standard streams as they are given to an interpreter."""

    def call(
        work: Callable[[], None],
        *arguments: str,
        streams: tuple[str, str, str] = (FILE, FILE, FILE),
        encoding: str = "utf-8",
        before: Callable[[], None] = lambda: None,
    ) -> tuple[int, str, str]:
        for name in ("0", "1", "2"):
            (tmp_path / name).write_bytes(b"")
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.chdir(tmp_path)
                signal.alarm(120)  # a command that hangs fails its test
                for number, state in enumerate(streams):
                    _open(number, state, encoding)
                settings.logging.root.handlers.clear()
                sys.argv = ["interp_lightning", *arguments]
                before()
                status = _exit_status(work)
            finally:
                os._exit(status)
        _, result = os.waitpid(pid, 0)
        output, errors = ((tmp_path / name).read_bytes().decode(encoding) for name in "12")
        return os.waitstatus_to_exitcode(result), output, errors

    return call


def _open(number: int, state: str, encoding: str) -> None:
    name = ("stdin", "stdout", "stderr")[number]
    os.close(number)
    if state == CLOSED:
        setattr(sys, name, None)
        return
    descriptor = os.open("/dev/full" if state == FULL else str(number), os.O_RDWR)
    if descriptor != number:  # a lower one is closed
        os.dup2(descriptor, number)
        os.close(descriptor)
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffer = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    errors = "backslashreplace" if number == 2 else "strict"
    setattr(sys, name, io.TextIOWrapper(buffer, encoding, errors, line_buffering=number == 2))


def _exit_status(work: Callable[[], None]) -> int:
    """Return the status with which the interpreter would exit; it flushes at its end."""
    try:
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, AttributeError):
        return 120
    return status


def command(module: object) -> Callable[[], None]:
    return lambda: settings.command(module.Settings, module.work)


def complete(run: Path) -> bool:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    named = ("checkpoints/last.ckpt", "figures/reconstructions.png", "run.log", ".hydra/config.yaml")
    return bool(results["metrics"]) and all((run / name).stat().st_size for name in named)


STATES = [
    (streams, encoding)
    for streams in itertools.product((FILE, CLOSED), (FILE, FULL, CLOSED), (FILE, FULL, CLOSED))
    for encoding in ("utf-8", "cp1252", "ascii")
]


@pytest.mark.parametrize(("streams", "encoding"), STATES)
def test_no_way_of_printing_fails_a_command(streams, encoding, start, tmp_path):
    """In every state that the standard streams can be in: each may be open, closed or on a full device."""

    @dataclass
    class Settings(settings.Common):
        run: list[str] = settings.setting([], "a run")

    def work(given: Settings) -> None:
        for stream in (sys.stdout, sys.stderr):
            print("a × b → λ \udc80", file=stream)
            rich = Console(file=stream)
            rich.print(Text("√" * 200))
            bar = Line(desc="Training", total=10, file=stream)
            bar.update(5)
            bar.close()
            Line.write("≤", file=stream)
        settings.logging.getLogger("it").warning("in a log: ≥")
        assert os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev or streams[0] == FILE
        print("x" * 100_000, flush=True)
        (tmp_path / "done").touch()

    status, output, errors = start(lambda: settings.command(Settings, work), "x", streams=streams, encoding=encoding)
    assert (tmp_path / "done").exists(), errors
    assert status == (streams[1] == FULL), errors
    assert "Traceback" not in output + errors
    assert "Logging error" not in errors
    assert ("standard output could not be written (No space" in errors) == (status == 1 and streams[2] == FILE)
    if streams[1] == FILE:
        assert output.startswith(
            {"utf-8": "a × b → λ ?\n", "cp1252": "a × b ? ? ?\n", "ascii": "a ? b ? ? ?\n"}[encoding]
        )
        assert output.endswith("x" * 100_000 + "\n")
    if streams[2] == FILE:
        for said in ("a × b → λ", "in a log: ≥"):
            assert said.encode(encoding, "backslashreplace").decode(encoding) in errors


@pytest.mark.parametrize(
    ("streams", "encoding"),
    [
        ((FILE, FILE, FILE), "ascii"),
        ((FILE, FULL, FULL), "cp1252"),
        ((CLOSED, CLOSED, CLOSED), "utf-8"),
    ],
)
def test_streams_and_encodings_cost_no_result(streams, encoding, start, run, tmp_path):
    commands = [
        (program.main, [*SMALL, "name='λ'"]),
        (command(evaluate), [f"run={run}", "out=again", "metrics.features=null", "metrics.restarts=1"]),
        (command(interpolate), [f"run={run}", "a=3", "b=8", "out=pictures"]),
        (command(compare), [str(run), "out=compared", "pictures=false"]),
        (program.main, ["--help"]),
    ]
    for work, arguments in commands:
        status, output, errors = start(work, *arguments, streams=streams, encoding=encoding)
        prints = work is not commands[2][0]
        assert status == (streams[1] == FULL and prints), errors
        assert "Traceback" not in output + errors
        assert "Logging error" not in errors
    (trained,) = tmp_path.glob("outputs/λ/*")
    assert complete(trained)
    assert "×" in (trained / "run.log").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "again" / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    assert "×" in (tmp_path / "compared" / "report.html").read_text(encoding="utf-8")
    assert "×" in (tmp_path / "compared" / "comparison.md").read_text(encoding="utf-8")


def test_files_are_not_given_the_number_of_a_closed_stream(start, tmp_path):
    def work() -> None:
        with settings.guarded():
            with open("mine", "w", encoding="utf-8") as file:
                print("printed")
                os.write(1, b"written")
                os.write(2, b"written")
                file.write("kept")
            assert os.system("echo of a child >&2") == 0

    assert start(work, streams=(CLOSED, CLOSED, CLOSED)) == (0, "", "")
    assert (tmp_path / "mine").read_text() == "kept"


def test_the_reader_of_a_pipe_may_go(start):
    def before() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)

    for work in (program.main, command(compare)):
        status, _, errors = start(work, "--help", before=before)
        assert (status, errors) == (141, "")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_text_files_are_opened_as_utf_8(path):
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        owner = getattr(getattr(call.func, "value", None), "id", "")
        given = ast.unparse(call)
        text = name in ("read_text", "write_text") or (
            name == "open" and owner not in ("os", "Image") and not re.search(r"'[rwa]b'|image|Image", given)
        )
        text |= any(f"{key.arg}={ast.unparse(key.value)}" == "text=True" for key in call.keywords)
        assert not text or "encoding='utf-8'" in given, f"{path}:{call.lineno}: {given}"


# Names and paths

NAMES = st.text(st.characters(codec=None), min_size=1, max_size=40) | st.text("aλ😀 .~[]#$%\\/\n\0", max_size=300)


@given(name=NAMES)
@example("a" * 255)
@example("a" * 256)
@example("λ" * 128)
@example("a$_$b")
@example("[bold]#😀 x")
@example("\udc80")
@example("~")
@example(".")
def test_a_name_is_the_folder_s_or_refused(name):
    """The folder made is exactly outputs/name/…, or the sentence says what a name may be."""
    with tempfile.TemporaryDirectory() as outputs:
        try:
            made = Path(resolvers.sweep_dir(outputs, resolvers.run_name(name, OmegaConf.create()), False))
        except ConfigError as error:
            refused = str(error)
        else:
            refused = ""
        finally:
            folders.new.clear()
        assert "must be the name of a folder" in refused or not refused
        assert os.listdir(outputs) == ([] if refused else [name])
        assert refused or os.listdir(Path(outputs) / name) == [made.name]


@pytest.mark.parametrize(
    "argument",
    [
        "outputs=~/x",
        "data.root=~/x",
        "+data.list=[~/x,~/y]",
        "ckpt_path='~/x'",
        "--config-dir=~/x",
        "a=~",
        "data.root=~root/x",
    ],
)
def test_a_home_folder_is_written_out_as_a_shell_does(argument, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere/me")
    assert settings.expand_home(argument) == argument.replace("~root", os.path.expanduser("~root")).replace(
        "~", "/somewhere/me"
    )
    assert settings.expand_home("~penalty.lam") == "~penalty.lam"  # which deletes it, for Hydra
    assert settings.expand_home("name=a~b") == "name=a~b"


def test_home_folders_of_a_file_and_of_nobody(monkeypatch, start, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "mine" / "experiment").mkdir(parents=True)
    there = tmp_path / "home" / "mine" / "experiment" / "there.yaml"
    there.write_text("# @package _global_\noutputs: ~/out\n")
    status, _, errors = start(program.main, "--config-dir=~/mine", "experiment=there", *SMALL)
    assert status == 0, errors
    assert list(tmp_path.glob("home/out/there/*/results.json"))
    assert not (tmp_path / "~").exists()
    with pytest.raises(ConfigError, match=r"`data.root` \(='~nobody_here/x'\) must start with a user of this machine"):
        written_out("data.root", "~nobody_here/x")


def test_relative_paths_are_those_of_the_command_with_chdir(start, run, tmp_path):
    (tmp_path / "it.ckpt").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    status, _, errors = start(
        program.main, *SMALL, "hydra.job.chdir=true", "outputs=mine/it", "ckpt_path=it.ckpt", "trainer.max_epochs=2"
    )
    assert status == 0, errors
    (trained,) = tmp_path.glob("mine/it/*/*")
    assert complete(trained)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "mine", "it.ckpt"}
    cfg = OmegaConf.create(
        {"data": {"root": "files"}, "ckpt_path": "last", "metrics": {"weights": "w.pth"}, "name": None}
    )
    write_out_paths(cfg, "/start")
    assert cfg == {
        "data": {"root": "/start/files"},
        "ckpt_path": "last",
        "metrics": {"weights": "/start/w.pth"},
        "name": None,
    }


@pytest.mark.parametrize("work", [program.main, *map(command, (evaluate, interpolate, explore, compare))])
def test_a_deleted_working_directory(work, start, tmp_path):
    def before() -> None:
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()

    status, output, errors = start(work, "model=ae", before=before)
    assert (status, output) == (1, "")
    assert errors == "\nthe working directory cannot be read (No such file or directory); cd to one that exists\n"


@pytest.mark.parametrize("outputs", ["file", "file/below", "a" * 300, "a/" * 1500, "/dev/null/x", "/proc/x"])
def test_outputs_that_cannot_be(outputs, start, tmp_path):
    (tmp_path / "file").write_text("mine")
    status, output, errors = start(program.main, *SMALL, f"outputs={outputs}")
    assert status == 1
    assert "Traceback" not in output + errors
    assert re.search(r"cannot be written or read|`outputs` \(=", errors), errors
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "file"}
    assert (tmp_path / "file").read_text() == "mine"


# Files of other kinds


def bound(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # an address is at most 108 bytes long
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "kind"), [(os.mkfifo, "FIFO"), (bound, "socket"), (endless, "device"), (Path.mkdir, "directory")]
)
def test_only_regular_files_are_read(make, kind, tmp_path):
    make(tmp_path / "it")
    with pytest.raises(OSError, match=f"it is a {kind}, not a regular file"):
        regular(tmp_path / "it")


def test_no_command_waits_for_a_fifo(start, run, tmp_path):
    for folder in ("MNIST/raw", "mine/data", "run"):
        (tmp_path / folder).mkdir(parents=True)
    names = ["it", "it.png", "it.ckpt", "MNIST/raw/train-images-idx3-ubyte", "mine/data/it.yaml", "run/results.json"]
    for name in names:
        os.mkfifo(tmp_path / name)
    for work, arguments in (
        (program.main, [*SMALL, "data=mnist", f"data.root={tmp_path}"]),
        (program.main, [*SMALL, "ckpt_path=it.ckpt"]),
        (program.main, [*SMALL, "--config-dir", "mine", "data=it"]),
        (program.main, [*SMALL, "metrics.features=inception", "metrics.weights=it"]),
        (command(interpolate), [f"run={run}", "a=it.png", "b=3"]),
        (command(evaluate), ["ckpt=it.ckpt"]),
        (command(evaluate), ["run=run"]),
        (command(compare), ["run"]),
    ):
        status, output, errors = start(work, *arguments)
        assert status == 1, (arguments, errors)
        assert "Traceback" not in output + errors


# Locks


def test_a_lock_leaves_no_file_and_has_one_holder(tmp_path):
    """Several processes take turns at a lock whose file goes with each release."""
    path, inside, counter = tmp_path / "lock", tmp_path / "inside", tmp_path / "counter"
    counter.write_text("0")

    def work() -> None:
        for _ in range(60):
            with lock(path, lambda: None):
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if another one is inside
                counter.write_text(str(int(counter.read_text()) + 1))
                inside.unlink()

    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                signal.alarm(120)
                work()
                os._exit(0)
            except BaseException:
                os._exit(1)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert counter.read_text() == "240"
    assert not path.exists()


def test_a_run_leaves_no_lock(run):
    assert not list(run.rglob("*.lock"))


# Launchers


@pytest.mark.parametrize(
    ("variables", "ignored"),
    [
        ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "5", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "3"}, ""),
        (
            {"LOCAL_RANK": "3", "NODE_RANK": "1", "MASTER_ADDR": "nowhere.invalid"},
            "NODE_RANK=1, MASTER_ADDR=nowhere.invalid",
        ),
    ],
)
def test_variables_without_their_launcher_make_no_difference(variables, ignored, start, tmp_path, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    rank_zero_only.rank = int(variables.get("LOCAL_RANK", 0))  # as Lightning has it when it is imported
    try:
        status, _, errors = start(program.main, *SMALL)
    finally:
        rank_zero_only.rank = 0
    assert status == 0, errors
    assert ignored in errors
    assert ("has started this process" in errors) == bool(ignored)
    (trained,) = tmp_path.glob("outputs/*/*")
    assert complete(trained)
    assert list(trained.glob("tensorboard/events*"))


# Widths

NUMBERS = st.floats(allow_subnormal=False) | st.floats(1e-6, 1e6, allow_subnormal=False)


@given(
    losses=st.dictionaries(
        st.sampled_from(["reconstruction", "interpolation", "penalty", "alpha", "latent_slope"]), NUMBERS
    ),
    width=st.integers(1, 250),
    total=st.integers(1, 10**9),
    share=st.floats(0, 1, allow_subnormal=False),
)
@example({"penalty": 8519.1234, "reconstruction": 0.0381234}, 80, 300_000, 0.5)
@example({}, 40, 1, 1.0)
def test_the_bar_cuts_no_number(losses, width, total, share):
    bar = Line(desc="Training", total=total, file=io.StringIO(), mininterval=1e9)
    bar.dynamic_ncols = lambda file: (width, 24)
    bar.n, bar.epoch = int(total * share), "1/9"
    bar.losses = {f"train/autoencoder/{name}": value for name, value in losses.items()}
    bar.start_t -= 100
    line = str(bar)
    assert len(line) <= max(width, 4)
    assert f"{bar.n / total:.0%}" in line
    whole = {f"{name}={value:.4g}" for name, value in losses.items()}
    shown = re.findall(r"[a-z_]+=[^, ]*", line.replace("epoch=1/9", ""))
    assert set(shown) <= whole
    if "reconstruction" in losses and shown:
        assert shown[0].startswith("reconstruction=")
    if width >= 40:
        assert "ETA " in line
        assert " images" in line
    if width >= 80:
        assert line.startswith("Training ")
        assert "epoch=1/9" in line
        assert re.search(r"/\S+ images", line)
        assert "|" in line
    if width >= 120 and losses:
        assert shown
    bar.disable = True


def test_the_time_left_does_not_leap_after_a_pause():
    now = 0.0
    bar = Line(desc="Training", total=1_000, file=io.StringIO(), mininterval=0)
    bar._time, bar.start_t, bar.last_print_t = (lambda: now), 0.0, 0.0
    left = []
    for step in range(1, 60):
        now += 1.0 if step != 50 else 30.0  # a milestone
        bar.update(10)
        minutes, seconds = re.search(r"ETA (\d+):(\d+)", str(bar)).groups()
        left.append(60 * int(minutes) + int(seconds))
    assert left[48] == 51
    assert max(left[49:]) < 2 * left[48]
    assert left[-1] < left[49]
    bar.disable = True


@given(
    cells=st.lists(st.lists(NUMBERS.map("{:.4g}".format), min_size=9, max_size=9), min_size=1, max_size=4),
    width=st.integers(30, 200),
    name=st.text("abλ 的=.", min_size=1, max_size=60),
)
def test_tables_cut_no_number(cells, width, name):
    text = io.StringIO()
    heads = [f"midpoint number {i}" for i in range(9)]
    columns = [Column("images", "text"), *map(Column, heads)]
    print_table(Table("title", columns, [Row([name, *row]) for row in cells]), Console(file=text, width=width))
    printed = text.getvalue()
    assert max(map(cell_len, printed.splitlines())) <= width
    assert "…" not in printed
    words = Counter(printed.split())
    for number, count in Counter(number for row in cells for number in row).items():
        assert words[number] >= count


@pytest.mark.parametrize("width", [80, 40])
def test_what_a_terminal_shows_is_whole(width, start, run, tmp_path):
    """As a terminal of that width gets it: the bar and all tables."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, width))
    said: list[bytes] = []

    def read() -> None:
        with suppress(OSError):
            while data := os.read(screen, 65536):
                said.append(data)

    reader = threading.Thread(target=read)
    reader.start()

    def before() -> None:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(terminal, number)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", buffering=1))
        os.environ.pop("COLUMNS", None)

    status, *_ = start(command(compare), str(run), "pictures=false", "out=compared", before=before)
    status += start(program.main, *SMALL, "trainer.log_every_n_steps=1", before=before)[0]
    os.close(terminal)
    reader.join(10)
    os.close(screen)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(said).decode()).replace("\r\n", "\n")
    assert status == 0, text
    lines = [line for block in text.split("\n") for line in block.split("\r")]
    bars = [line for line in lines if "ETA" in line]
    assert bars
    assert all(len(line.rstrip()) <= width and "ETA" in line and "%" in line for line in bars)
    assert width <= 80 or any(re.search(r"reconstruction=[\d.]+(,| *$)", line) for line in bars)
    rows = [line for line in lines if line.startswith(("│", "┃", "┏"))]
    assert rows
    assert all(cell_len(line) <= width for line in rows)
    assert not [line for line in rows if re.search(r"\d…|^[│┃].*[a-z]…", line)]
