"""Generate the parts of the manual that the code knows best: all settings, the list of metrics, the API reference.

A hook of mkdocs, which mkdocs.yml names. Nothing here imports torch.
"""

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "interp_lightning"
INCLUDED = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    reference = [{room or "interp_lightning": f"reference/{room or 'index'}.md"} for room in rooms()]
    config.nav = [*(config.nav or []), {"Reference": [{"All settings": "settings.md"}, *reference]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages themselves."""
    pages = {"settings.md": settings()} | {page: (ROOT / name).read_text() for page, name in INCLUDED.items()}
    pages |= {f"reference/{room or 'index'}.md": reference(room) for room in rooms()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the list of metrics where a page asks for it."""
    return re.sub(r"<!-- metrics -->\n.*", lambda _: metrics(), markdown)


def rooms() -> list[str]:
    """Return the names of all subpackages, and first "" for the package itself."""
    return ["", *sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))]


def reference(room: str) -> str:
    """Return the API reference of one subpackage: the sentence of its __init__.py, then each module."""
    folder = PACKAGE / room
    modules = sorted(path for path in folder.rglob("*.py") if room or path.parent == PACKAGE)
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules if path.stem[0] != "_"]
    path = f"interp_lightning.{room}".removesuffix(".")
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    lines = [f"# {room or path}", docstring, f"The modules of `{path}`:" if room else "Its parts:"]
    if not room:
        listed = [f"- [`{other}`]({other}.md): {summary(PACKAGE / other / '__init__.py')}" for other in rooms()[1:]]
        lines += ["\n".join(listed)]
    return "\n\n".join([*lines, *(f"::: {name}" for name in names)]) + "\n"


def summary(file: Path) -> str:
    """Return the first sentence of a module."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].replace("\n", " ")


def settings() -> str:
    """Return every file of conf/, by group, with its comments."""
    lines = [
        "# All settings",
        "The files in `conf/`, as they are. Set any value on the command line (`penalty.lam=0.1`), and choose a file "
        "of a group by its name (`penalty=mmd`). `interp-lightning --cfg job` prints the result.",
        block("conf/config.yaml", before="\nhydra:\n"),
    ]
    for group in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        lines.append(f"## {group.name}")
        lines += [block(str(file.relative_to(ROOT))) for file in sorted(group.glob("*.yaml"))]
    return "\n\n".join(lines) + "\n"


def block(name: str, before: str = "\0") -> str:
    """Return a YAML file, or its part before a text, as a code block with a title."""
    content = (ROOT / name).read_text().partition(before)[0].strip()
    return f'```yaml title="{name}"\n{content}\n```'


def metrics() -> str:
    """Return the table of all metrics."""
    from interp_lightning.metrics.catalogue import METRICS

    rows = [
        f"| `{name}` | {'↑' if entry.higher_is_better else '↓'} | {entry.meaning} |" for name, entry in METRICS.items()
    ]
    return "\n".join(["| name | better | meaning |", "|---|---|---|", *rows])
