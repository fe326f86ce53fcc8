"""Whatever the environment is: streams, encodings, paths, names, files of other kinds, leftover variables, widths."""

import ast
import io
import itertools
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, _compose
from rich.console import Console
from rich.text import Text

from interp_lightning import __main__ as program
from interp_lightning import cli, compare, evaluate, interpolate
from interp_lightning.callbacks.progress import Line
from interp_lightning.experiment import run as train

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "interp_lightning"
SMALL = [*TINY, "model=ae", "penalty=none", "metrics.features=null", "metrics.restarts=1"]
SMALL += ["trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.enable_progress_bar=true"]

# How a standard stream may be, and how many bytes arrive.
CLOSED, FULL, FILE = "closed", "full", "file"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the folder of a small run; tests must not write into it."""
    outputs = tmp_path_factory.mktemp("small")
    train(_compose(outputs, SMALL, "run"))
    return outputs / "run"


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
                cli.logging.root.handlers.clear()
                sys.argv = ["interp_lightning", *arguments]
                cli.TRACEBACK = program.TRACEBACK = False
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
    return lambda: cli.command(module.USAGE, module.DEFAULTS, module.work)


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

    def work(settings: cli.Settings) -> None:
        for stream in (sys.stdout, sys.stderr):
            print("a × b → λ \udc80", file=stream)
            rich = Console(file=stream)
            rich.print(Text("√" * 200))
            bar = Line(desc="Training", total=10, file=stream)
            bar.update(5)
            bar.close()
            Line.write("≤", file=stream)
        cli.logging.getLogger("it").warning("in a log: ≥")
        assert os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev or streams[0] == FILE
        print("x" * 100_000, flush=True)
        (tmp_path / "done").touch()

    status, output, errors = start(lambda: cli.command("", {"run": []}, work), "x", streams=streams, encoding=encoding)
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
        with cli.guarded():
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
