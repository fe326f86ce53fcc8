"""The layout holds: imports point down, no file and no class grows beyond reading."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "interp_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up. A room imports from itself and from lower floors only, inside functions too.
FLOORS = [
    {"errors"},
    {"parameters"},
    {"system"},
    {"functional"},
    {"steps", "metrics"},
    {"data", "networks", "paths"},
    {"penalties"},
    {"models"},
    {"runs", "evaluation"},
    {"display"},
    {"config"},
    {"comparison", "explorer"},
    {"training"},
    {"commands"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of all modules that a file imports; of `from package import name`, package.name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down_and_nothing_is_too_long(file):
    text = file.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 300
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        assert sum(isinstance(node, ast.FunctionDef) for node in kind.body) <= 20, kind.name
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room.startswith("__"):  # the public face
        return
    rooms = {name.split(".")[1] for name in imported(tree) if name.startswith("interp_lightning.")} & FLOOR.keys()
    assert not [other for other in rooms - {room} if FLOOR[other] >= FLOOR[room]]


def test_only_the_explorers_page_imports_gradio():
    users = [
        file for file in FILES if any(name.split(".")[0] == "gradio" for name in imported(ast.parse(file.read_text())))
    ]
    assert [str(file.relative_to(PACKAGE)) for file in users] == ["explorer/page.py"]


def test_every_room_has_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and not path.name.startswith("__")}
    assert rooms - {"conf"} == FLOOR.keys()
