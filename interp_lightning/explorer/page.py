"""The explorer's page, by Gradio."""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr

from interp_lightning.display.animation import MP4_REQUIRES
from interp_lightning.errors import ConfigError
from interp_lightning.explorer import HOST
from interp_lightning.explorer.ends import End
from interp_lightning.explorer.saving import FORMATS, formats, saved, saved_grid
from interp_lightning.explorer.state import SPEEDS, Explorer
from interp_lightning.explorer.view import end_html, gallery_html, grid_html, notes_html, path_html, problem_html

TITLE = "interp_lightning explorer"
FONT = ["system-ui", "sans-serif"]  # installed ones: Gradio's own come from other hosts
MONO = ["ui-monospace", "monospace"]
ASSETS = Path(__file__).parent
MOST_UPLOADED = "50mb"
ANY = -1  # label
NO_RUN = "nothing is chosen: choose a run"
PANELS = 4
ENDS_WIDTH, PATHS_WIDTH = 240, 320  # least pixels; on a telephone, the ends are below the paths
FIRST = ("lerp", "graph")  # kinds of path that are shown at first
PAD = '<div class="pad"><canvas width="280" height="280" aria-label="area to draw in"></canvas></div>'
DRAWN = "(_, end) => [explorer.drawn('{name}'), end]"
CLEAR = "() => explorer.clear('{name}')"
DOWNLOAD = "(text) => explorer.download(text)"
# One event at a time computes: models and what is remembered of features are shared.
PRIVATE: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "minimal",
    "concurrency_id": "model",
    "concurrency_limit": 1,
}


@dataclass(frozen=True)
class Panel:
    """The part of the page that chooses an end."""

    end: gr.State
    chosen: list[Any]  # events after which there may be another end


class Page:
    """The page of an explorer.

    Args:
        explorer: what it shows.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.unit = "pixels" if explorer.witness.judge is None else "the judge's features"
        self.runs, self.kinds = list(explorer.models), explorer.offered()
        with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as self.blocks:
            self._build()

    def _build(self) -> None:
        with gr.Row(elem_id="whole"):
            with gr.Column(scale=1, min_width=ENDS_WIDTH, elem_id="ends"):
                a, b = self._panel("A", 0), self._panel("B", 1)
            with gr.Column(scale=4, min_width=PATHS_WIDTH), gr.Tabs():
                with gr.Tab("Path"):
                    self._path_tab(a, b)
                with gr.Tab("Four corners") as tab:
                    self._corners_tab(tab, a, b)

    def _panel(self, name: str, part: int) -> Panel:
        ends = self.explorer.ends
        label = ends.labels[part * len(ends.labels) // PANELS] if ends.labels else ANY
        place = ends.typical(_wanted(label))
        first = ends.test_image(_wanted(label), place)
        with gr.Column(elem_id=f"end-{name}", min_width=ENDS_WIDTH):
            end = gr.State(first)
            with gr.Row():
                choices = [("any", ANY), *((ends.data.class_names[each], each) for each in ends.labels)]
                with_label = bool(ends.labels)
                labels = gr.Dropdown(choices, value=label, label=f"{name}: label", min_width=80, visible=with_label)
                title = "number" if with_label else f"{name}: number"
                number = gr.Number(place, label=title, precision=0, min_width=80, elem_classes="number")
            picture = gr.HTML(end_html(first))
            gallery = gr.HTML(gallery_html(ends.gallery(_wanted(label))))
            with gr.Accordion("Upload or draw", open=False):
                upload = gr.UploadButton("Upload a picture", size="sm", file_types=None)
                gr.HTML(PAD)
                with gr.Row():
                    use = gr.Button("Use the drawing", size="sm", min_width=80)
                    clear = gr.Button("Clear", size="sm", min_width=80)
        url = gr.Textbox(visible=False)
        shown = [end, picture]
        relabelled = labels.input(self._relabelled, [labels, end], [*shown, number, gallery], **PRIVATE)
        numbered = number.input(self._numbered, [labels, number, end], shown, trigger_mode="always_last", **PRIVATE)
        uploaded = upload.upload(self._uploaded, [upload, end], shown, **PRIVATE)
        drawn = use.click(self._drawn, [url, end], shown, js=DRAWN.format(name=name), **PRIVATE)
        clear.click(None, js=CLEAR.format(name=name), api_visibility="private")
        return Panel(end, [relabelled, numbered, uploaded, drawn])

    def _path_tab(self, a: Panel, b: Panel) -> None:
        with gr.Row(elem_id="choice"):
            several = len(self.runs) > 1
            first = [how for how in FIRST if how in self.kinds]
            kinds = gr.CheckboxGroup(self.kinds, value=first, label="Kind of path", scale=3, min_width=300)
            runs = gr.CheckboxGroup(self.runs, value=self.runs, label="Run", scale=2, min_width=200, visible=several)
            speed = gr.Radio(list(SPEEDS), value=SPEEDS[0], label="Speed", min_width=160)
        alpha = "α: the position between A and B"
        gr.Slider(0, 1, value=0.5, step=0.01, label=alpha, elem_id="alpha", interactive=True, buttons=[])
        rows = gr.HTML(elem_id="rows")
        asked = [runs, kinds, speed, a.end, b.end]
        self._show(self._strips, asked, rows, [a, b], [kinds.input, runs.input, speed.input])
        with gr.Row():
            buttons = {kind: gr.Button(f"Save {FORMATS[kind]}", size="sm", min_width=80) for kind in formats()}
        if "mp4" not in buttons:
            gr.HTML(notes_html([f"{MP4_REQUIRES}."]))
        told = gr.HTML()
        for kind, button in buttons.items():
            self._download(button, self._saver(kind), asked, told)

    def _corners_tab(self, tab: gr.Tab, a: Panel, b: Panel) -> None:
        gr.Markdown("Codes between four images: A and B above, C and D below. Point at the grid.")
        runs = gr.CheckboxGroup(self.runs, value=self.runs[:1], label="Run", visible=len(self.runs) > 1)
        grids = gr.HTML(elem_id="grids")
        with gr.Row():
            c, d = self._panel("C", 2), self._panel("D", 3)
        asked = [runs, a.end, b.end, c.end, d.end]
        self._show(self._grids, asked, grids, [c, d], [runs.input, tab.select])
        save, told = gr.Button("Save PNG of the grid", size="sm"), gr.HTML()
        self._download(save, self._save_grids, asked, told)

    def _download(
        self, button: gr.Button, save: Callable[..., tuple[str, str]], asked: Sequence[Any], told: gr.HTML
    ) -> None:
        """Let a button download the file that `save` returns, or show the sentence that it returns instead."""
        text = gr.Textbox(visible=False)
        button.click(save, asked, [text, told], **PRIVATE).then(None, text, js=DOWNLOAD, api_visibility="private")

    def _show(
        self, make: Callable[..., str], asked: Sequence[Any], place: gr.HTML, panels: Sequence[Panel], events: list[Any]
    ) -> None:
        """Show what `make` returns when the page is loaded, and after each event."""
        gr.on([self.blocks.load, *events], make, asked, place, trigger_mode="always_last", **PRIVATE)
        for event in (each for panel in panels for each in panel.chosen):
            event.then(make, asked, place, **PRIVATE)

    def _strips(self, runs: list[str], kinds: list[str], speed: str, a: End, b: End) -> str:
        try:
            strips = self.explorer.strips(runs, self._in_order(kinds), speed, a, b)
            return path_html(strips, self.unit) + notes_html(self.explorer.missing(runs, self._in_order(kinds)))
        except ConfigError as error:
            return problem_html(str(error))

    def _grids(self, runs: list[str], *corners: End) -> str:
        if not runs:
            return problem_html(NO_RUN)
        return grid_html([self.explorer.grid(run, *corners) for run in runs], self.unit)

    def _save_grids(self, runs: list[str], *corners: End) -> tuple[str, str]:
        if not runs:
            return "", problem_html(NO_RUN)
        return json.dumps(saved_grid([self.explorer.grid(run, *corners) for run in runs], corners)), ""

    def _saver(self, kind: str) -> Callable[..., tuple[str, str]]:
        def save(runs: list[str], kinds: list[str], speed: str, a: End, b: End) -> tuple[str, str]:
            try:
                strips = self.explorer.strips(runs, self._in_order(kinds), speed, a, b)
                return json.dumps(saved(kind, strips, speed, a, b)), ""
            except ConfigError as error:
                return "", problem_html(str(error))

        return save

    def _in_order(self, kinds: Sequence[str]) -> list[str]:
        return [how for how in self.kinds if how in kinds]

    def _relabelled(self, label: int, before: End) -> tuple[End, str, int, str]:
        place = self.explorer.ends.typical(_wanted(label))
        end, picture = self._numbered(label, place, before)
        return end, picture, place, gallery_html(self.explorer.ends.gallery(_wanted(label)))

    def _numbered(self, label: int, number: float | None, before: End) -> tuple[End, str]:
        return self._chosen(lambda: self.explorer.ends.test_image(_wanted(label), number), before)

    def _uploaded(self, path: str, before: End) -> tuple[End, str]:
        return self._chosen(lambda: self.explorer.ends.picture(Path(path), Path(path).name), before)

    def _drawn(self, url: str, before: End) -> tuple[End, str]:
        return self._chosen(lambda: self.explorer.ends.drawing(url), before)

    @staticmethod
    def _chosen(choose: Callable[[], End], before: End) -> tuple[End, str]:
        """Return the chosen end and its picture; the end before it and a sentence if the choice is not possible."""
        try:
            end = choose()
        except ConfigError as error:
            return before, end_html(before, f"{error}; {before.name} is kept")
        return end, end_html(end)


def _wanted(label: int) -> int | None:
    return None if label == ANY else label


@contextmanager
def served(explorer: Explorer, port: int | None = None, browser: bool = False) -> Iterator[str]:
    """Serve the page on this machine only, and yield its address.

    Args:
        explorer: what it shows.
        port: None takes Gradio's own, or the next free one.
        browser: open the page in the user's browser.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each request
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own page whether it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    with tempfile.TemporaryDirectory(prefix="interp_lightning_") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        blocks = Page(explorer).blocks
        _, address, _ = blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            max_file_size=MOST_UPLOADED,
            theme=gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=MONO),
            css=(ASSETS / "page.css").read_text(encoding="utf-8"),
            head=f"<script>{(ASSETS / 'page.js').read_text(encoding='utf-8')}</script>",
        )
        try:
            yield address
        finally:
            blocks.close(verbose=False)
