"""Results of runs that never were, for tests of comparisons, and names that show what is not escaped."""

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from interp_lightning.comparison.collect import collect
from interp_lightning.comparison.groups import Comparison

METRICS = {"reconstruction_mse": 0.03, "probe_accuracy": 0.96, "latent_w2": 0.2, "fid_midpoints_lerp": 10.0,
           "realism_midpoints_lerp": 0.3, "realism_lerp": 0.5, "evenness_lerp": 1.5, "detour_lerp": 1.1,
           "path_length_lerp": 3.0, "fid_prior": 14.8, "mine": 1.0}  # fmt: skip
SANITY = {"fid_midpoints_blend": 15.0, "realism_midpoints_blend": 0.09, "realism_blend": 0.4, "evenness_blend": 2.1,
          "detour_blend": 1.3, "fid_real": 0.4, "fid_noise": 400.0}  # fmt: skip
VALID: dict[str, Any] = {
    "model": "acai", "penalty": "wasserstein", "data": "mnist", "data_asked_for": "mnist", "seed": 0,
    "budget": {"epochs": 5, "images": 275_000, "seconds": 240.5, "skipped_steps": 0},
    "images_per_second": 1150.0, "versions": {"torch": "2.14.1"}, "git_commit": "5cdd600", "config_hash": "f" * 64,
    "config": {
        "name": None, "outputs": "outputs", "seed": 0, "latent_dim": 32, "guard": "stop",
        "model": {"_target_": "interp_lightning.models.acai.ACAI", "lam": 0.5},
        "penalty": {"_target_": "interp_lightning.penalties.wasserstein.Wasserstein", "lam": 0.003, "mean": None},
        "data": {"batch_size": 64, "fallback": None, "root": "data"}, "network": {"_target_": "a.Fast", "depth": 16},
        "choices": {"model": "acai", "penalty": "wasserstein", "data": "mnist", "network": "fast"},
        "data_used": "mnist",
    },
    "protocol": {"restarts": 100, "images": 5000, "pairs": 256, "steps": 16, "features": "digits"},
    "metrics": METRICS, "sanity": SANITY,
}  # fmt: skip


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The valid results with other values, by dotted name (a `/` instead of dots in config, whose keys have dots)."""
    content = copy.deepcopy(VALID)
    for name, value in changes:
        part = content
        *parents, key = name.split(".")
        for parent in parents:
            part = part[parent]
        part[key] = value
    return content


def write(folder: Path, content: Any, text: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content) if text is None else text)
    return folder


HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b|", "\\|`x`", "`a", "[x](http://e.com)", "a\\",
    "![x](http://e.com/y)", "http://e.com www.e.com", "*a* _b_ ~~c~~", "=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)",
    " =1", "a;=1", "[bold]", "[/x]", "[link=http://e.com]x[/link]", ":smile:", "$a$_$b", r"\frac{1}{2}$x$", "$", "_x",
    "{{ 7*7 }}", "{% for x in y %}", "&lt;b&gt;", "x" * 190, "猫 😀 é", "<!--", "]]>", "</style>", "a  b", "%s %(x)s",
]  # fmt: skip
UNPRINTABLE = ["a\nb", "\t=1", "\r=1", "\x1b[31mred", "a\u202eb", "\u200b=1", "\u3164", "\x00", "\u2028x", "#\n# x"]


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(page)

    @property
    def tags_outside_tables(self) -> list[tuple[str, ...]]:
        """Those that do not depend on the number of columns."""
        return [tag for tag in self.tags if tag[0] not in ("th", "td")]

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def made(room: Path, *runs: dict[str, Any]) -> Comparison:
    """A comparison of runs that differ from the valid one by settings and numbers, by dotted name."""
    found = []
    for number, each in enumerate(runs):
        content = changed(*each.items(), ("config.seed", each.get("seed", 0)))
        found.append(write(room / str(number), content))
    return collect(found)


def fid(value: float, seed: int = 0, lam: float = 0.003, **more: Any) -> dict[str, Any]:
    return {"metrics.fid_midpoints_lerp": value, "seed": seed, "config.penalty.lam": lam} | more
