"""results.json as data from elsewhere: read by one schema, and shown as it is in every format."""

import contextlib
import copy
import csv
import html as html_module
import io
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from invented import HOSTILE, UNPRINTABLE, VALID, Structure, changed, fid, made, write
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from interp_lightning.commands.conclude import conclude
from interp_lightning.comparison import figures as comparison_figures
from interp_lightning.comparison.collect import collect
from interp_lightning.comparison.figures import side_by_side
from interp_lightning.comparison.groups import Comparison, Result
from interp_lightning.comparison.labels import labels
from interp_lightning.comparison.report import html
from interp_lightning.comparison.tables import all_numbers, comparison_markdown, tables
from interp_lightning.comparison.verdicts import shortcomings
from interp_lightning.display import grid as image_grids
from interp_lightning.display.tables import print_results
from interp_lightning.errors import ResultsError
from interp_lightning.runs import sweeps
from interp_lightning.runs.find import find_runs
from interp_lightning.runs.results import read_results, write_results
from interp_lightning.system.table import as_csv, print_table
from interp_lightning.system.text import csv_cell, markdown, printable, terminal
from interp_lightning.training.tensorboard import TensorBoard


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


# The schema

TEXT = st.text("ab1 .=+-@|<>&\"'`*_[](){}$\\/~#!:;,\n\r\t\x00\x1b\u202e\u200b\u3164\ud800é猫😀", max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([-1, 2**53 + 1, 10**400, -(10**400), 1e308])
    | st.floats(allow_subnormal=False) | TEXT,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    for key, each in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from places(each, (*path, key))


@settings(max_examples=100)
@given(
    place=st.sampled_from(sorted(places(VALID))), how=st.sampled_from(["set", "delete", "add"]), key=TEXT, value=JSON
)
@example(place=("git_commit",), how="set", key="", value=["<script>alert(1)</script>"])
@example(place=("git_commit",), how="delete", key="", value=None)
@example(place=("budget", "seconds"), how="set", key="", value=None)
@example(place=("metrics", "reconstruction_mse"), how="set", key="", value=10**400)
@example(place=("config", "penalty", "lam"), how="set", key="", value=10**400)
@example(place=("config", "choices"), how="set", key="", value={})
@example(place=("model",), how="set", key="", value="\ud800")
def test_altered_results_are_refused_in_a_sentence_or_shown(place, how, key, value, room):
    content = copy.deepcopy(VALID)
    part = content
    for each in place[:-1]:
        part = part[each]
    if how == "delete":
        del part[place[-1]]
    else:
        part[place[-1] if how == "set" else key] = value
    run = write(room / "altered", content)
    sentence, read = outcome(run)
    if read is None:
        assert sentence == printable(sentence)
        assert str(run) in sentence
        assert "python -m interp_lightning evaluate run=" in sentence
        return
    assert read["metrics"].keys() == content["metrics"].keys()
    (room / "again").mkdir(exist_ok=True)
    write_results(room / "again", read)
    assert read_results(room / "again") == read
    show_everywhere(collect([run]), room)


def outcome(run: Path) -> tuple[str, dict[str, Any] | None]:
    """Why a run's results cannot be used, or the results."""
    try:
        return "", read_results(run)
    except ResultsError as error:
        return str(error), None


def show_everywhere(comparison: Comparison, room: Path) -> dict[str, str]:
    """A comparison in every format, and the report of its first run; by format."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "4000")
        for table in tables(comparison):
            print_table(table)
        first = comparison.results[0]
        print_results(first.content, room, shortcomings(first.run, first.content))
    return {
        "terminal": printed.getvalue(),
        "markdown": comparison_markdown(comparison),
        "html": html(comparison, {}),
        "csv": as_csv(all_numbers(comparison)),
    }


@settings(max_examples=100)
@given(config=st.dictionaries(TEXT, JSON, max_size=4), name=TEXT)
def test_what_is_written_can_be_read(config, name, room):
    content = changed(("penalty", name or "none"), ("data_asked_for", name or None))
    content["config"] |= {f"x{key}": each for key, each in config.items()}
    content["metrics"] |= {"a": float("nan"), "b": float("-inf"), "c": 1e300, "d": 3}
    write_results(room, content)
    sentence, read = outcome(room)
    if read is None:
        assert "nested at most" in sentence
    else:
        assert [read["metrics"][key] for key in "abcd"] == [None, None, None, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model": "a", "model": "b"}', r"cannot be read \(a key occurs twice"),
        (json.dumps(VALID)[:-1] + ', "new": {"\\ud800": 1}}', r"cannot be read \(a key is not valid Unicode"),
        (json.dumps(VALID)[:-1] + f', "new": {"9" * 5000}}}', r"cannot be read \(Exceeds the limit"),
        (json.dumps(VALID)[:-1] + f', "new": {"[" * 30 + "]" * 30}}}', r"has no usable new; .*nested at most 20 deep"),
        (" " * (16 * 2**20 + 1), r"cannot be read \(it has more than 16 MiB\)"),
        (json.dumps(changed(("versions", {"torch": "9" * 201}))), r"has no usable torch; .*at most 200 characters"),
        (json.dumps(changed(("model", "a\x1b[31m"))), r"has no usable model; .*printable characters only"),
        (json.dumps(changed(("seed", True))), r"has no usable seed; it was altered or written by another"),
        (json.dumps(changed(("seed", 2**53 + 1), ("budget.images", -1))), r"has no usable seed, images; it was"),
        (json.dumps(changed(("metrics.fid_prior", 1e101))), r"has no usable fid_prior; it was altered"),
    ],
)
def test_what_no_run_writes_is_refused(text, message, tmp_path):
    with pytest.raises(ResultsError, match=message):
        read_results(write(tmp_path, None, text))


def test_numbers_that_json_lacks_are_none_and_keys_of_a_newer_version_are_kept(tmp_path):
    content = changed(("metrics.fid_prior", float("nan")), ("measured", {"batches": 3}), ("budget.batches", 9))
    read = read_results(write(tmp_path, content))
    assert read["metrics"]["fid_prior"] is None
    assert (read["measured"], read["budget"]["batches"]) == ({"batches": 3}, 9)


def test_a_search_goes_by_readable_results_only(tmp_path, caplog):
    assert sweeps.score(write(tmp_path, VALID), "fid_prior") == 14.8
    assert sweeps.score(write(tmp_path, changed(("metrics.fid_prior", "low"))), "fid_prior") is None
    assert "has no usable fid_prior" in caplog.text


# Formats


def runs_called(texts: list[str], room: Path) -> Comparison:
    """A run for each text, which stands wherever results.json takes one."""
    runs = []
    for number, text in enumerate(texts):
        name = text if text == printable(text) and text else "plain"
        content = changed(("model", name), ("penalty", name), ("versions", {name: name}),
                          ("protocol.features", "".join(texts)),
                          ("metrics.fid_midpoints_lerp", 10.0 + number))  # fmt: skip
        content["config"] |= {"guard": f"{text}{number}", f"k{text}": text, f"-{text}": -1.5, "list": [text, number]}
        content["metrics"][f"m{name}"] = -2.5
        runs.append(write(room / f"called{number}", content))
    return collect(runs)


def rows_of(table: str) -> Iterator[list[int]]:
    """The number of cells of each row, table by table."""
    for block in re.split(r"\n\n+", table):
        counts = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")]
        if counts:
            yield counts


@settings(max_examples=15)
@given(texts=st.lists(TEXT.map(lambda text: text.replace("\ud800", "")), min_size=1, max_size=4))
@example(texts=[*HOSTILE, *UNPRINTABLE])
def test_every_format_shows_texts_as_they_are(texts, room):
    usual = show_everywhere(runs_called(["usual"] * len(texts), room), room)
    shown = show_everywhere(runs_called(texts, room), room)

    page = Structure(shown["html"])
    assert page.tags_outside_tables == Structure(usual["html"]).tags_outside_tables
    assert {*page.tags} <= {*Structure(usual["html"]).tags} | {("th", "scope", "class", "data-first", "title")}
    rows = list(rows_of(shown["markdown"]))
    assert rows == list(rows_of(usual["markdown"]))
    assert all(len(set(counts)) == 1 for counts in rows)
    prose = re.sub(r"^>", "", shown["markdown"], flags=re.MULTILINE)
    assert not re.search(r"[<>`\[\]\\$]|https?:|www\.", prose)
    for text in texts if len(texts) > 1 else []:  # a single run's label has no settings
        for place in (page.text, html_module.unescape(shown["markdown"]), shown["terminal"]):
            assert len(text) > 30 or f"guard={printable(text)}".split(",")[0] in place
    assert "\x1b" not in shown["terminal"]

    table = list(csv.reader(io.StringIO(shown["csv"], newline="")))
    assert {len(row) for row in table} == {len(table[0])}
    cells = [cell for row in table for cell in row]
    assert [float(cell) for cell in cells if is_number(cell)].count(-1.5) >= 1
    assert "-2.5" in cells
    for cell in cells:
        assert is_number(cell) or not re.match(r"\s*[=+\-@]", cell)
        assert cell.isprintable()


def is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False


def test_a_console_shows_names_as_they_are_and_nothing_moves_its_cursor():
    console = Console(width=80, file=io.StringIO(), force_terminal=True)
    console.print(terminal("[bold]x[/] [/y] :smile: \x1b[2J\u202e"))
    assert r"[bold]x[/] [/y] :smile: \x1b[2J\u202e" in console.file.getvalue()


def test_numbers_of_a_csv_file_stay_numbers():
    assert [csv_cell(value) for value in (-1, -2.5, 1e-9, None)] == [-1, -2.5, 1e-9, None]
    assert [csv_cell(text) for text in ("-1", "a;=1", "\t=1", "＝1")] == ["'-1", "a;'=1", "\\t=1", "'＝1"]


def test_a_sweeps_summary_shows_settings_and_errors_as_they_are(tmp_path, capsys):
    for number, text in enumerate([*HOSTILE, *UNPRINTABLE, "\ud800"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = {"overrides": [f"name={text}"], "status": "failed", "error": f"`penalty.lam` (={text}) must be ≥ 0"}
        (folder / "job.json").write_text(json.dumps(job))
    assert not conclude(tmp_path, pictures=True)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    (first, *settings), (_, *jobs) = rows_of(summary)
    assert {first} == set(settings) == {5}
    assert set(jobs) == {5}
    assert summary.partition("### Jobs")[2].count("`penalty.lam` (=") == len(jobs) - 1
    assert not re.search(r"[<>\[\]\\$]|https?:|www\.", re.sub(r"^>", "", summary, flags=re.MULTILINE))
    assert "[/x]" in capsys.readouterr().out


def texts_of(figure: Figure) -> list[str]:
    """What matplotlib shows in a figure, unless it takes it for mathematics."""
    found = [text.get_text() for text in figure.findobj(Text)]
    assert not any("$" in text.replace(r"\$", "") for text in found if "mathdefault" not in text)
    return [" ".join(text.replace(r"\$", "$").split()) for text in found]


class Still(torch.nn.Module):
    """A model whose paths are its first image."""

    device = torch.device("cpu")

    def interpolate(self, x_a: torch.Tensor, x_b: torch.Tensor, steps: int, how: str) -> torch.Tensor:
        return x_a[:, None].repeat(1, steps, 1, 1, 1)


@pytest.mark.pictures
@settings(max_examples=3)
@given(texts=st.lists(TEXT.map(lambda text: text.replace("\ud800", "")), min_size=1, max_size=4))
@example(texts=[*HOSTILE, *UNPRINTABLE])
@example(texts=["x" * 190])
def test_figures_show_texts_as_they_are_without_a_warning(texts, room):
    comparison = runs_called(texts, room)
    x = torch.zeros(2, 1, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = image_grids.image_grid(
            x[None].repeat(len(texts), 1, 1, 1, 1), f"{texts[0]} → b\n{texts[-1]}", texts, texts[:2]
        )
        drawn = comparison_figures.trade_off(comparison) | {"grid": grid}
        drawn |= side_by_side([(group.label, Still()) for group in comparison.groups[:3]], x, 3)
        for figure in drawn.values():
            figure.savefig(io.BytesIO(), dpi=40)
    shown = texts_of(grid)
    for text in texts:
        start = " ".join(printable(text, image_grids._font_has)[:12].split())
        assert any(found.startswith(start) for found in shown)
    legend = [entry.get_text() for entry in drawn["trade_off"].legends[0].get_texts()]
    assert len({*legend}) == len(legend) == len(comparison_figures.curves(comparison, "penalty.lam", "model.lam"))
    assert not any(entry.startswith("_") for entry in legend)


@pytest.mark.pictures
def test_very_many_and_very_long_names_still_fit_in_a_figure():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = image_grids.image_grid(torch.zeros(900, 1, 1, 1, 1), "x" * 9000 + "\n" * 99, rows=["y" * 9000])
    assert max(figure.get_size_inches()) * figure.dpi < 2**16


@pytest.mark.parametrize("name", ["a$_$b", "$HOME", "~", "${HOME}"])
def test_curves_are_written_where_the_run_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = TensorBoard(name, name=name, version="")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    assert list((tmp_path / name / name).glob("events.*"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Comparisons


def said(comparison: Comparison, room: Path) -> str:
    """What a reader is told, which is the same in every format (but for line breaks)."""
    shown = show_everywhere(comparison, room)
    texts = [sentence for table in tables(comparison) for sentence in table.remarks]
    for sentence in texts:
        assert sentence in shown["terminal"]
        assert markdown(sentence) in shown["markdown"]
        assert sentence in Structure(shown["html"]).text
    return " ".join([*texts, *comparison.caveats])


def test_a_run_that_is_reached_twice_counts_once(tmp_path, monkeypatch):
    run = write(tmp_path / "runs" / "2026", VALID)
    write(tmp_path / "runs" / "2027", VALID)
    (tmp_path / "runs" / "1latest").symlink_to(run)
    (tmp_path / "runs" / "latest").symlink_to(run)
    assert find_runs([str(tmp_path / "runs")]) == [run, tmp_path / "runs" / "2027"]
    monkeypatch.chdir(tmp_path / "runs")
    for spellings in (["2026", str(run)], ["2026", "./2026/"], ["2026", "../runs/2026"], ["2026", "latest", "1latest"]):
        assert find_runs(spellings) == [Path("2026")]
    assert find_runs(["latest", "2026"]) == [Path("latest")]


def test_the_same_seed_again_is_no_spread_over_seeds(tmp_path):
    comparison = made(tmp_path, fid(4), fid(6), fid(9, lam=1))
    first, _ = comparison.groups
    assert first.size == "2 runs, 1 seed"
    assert first.values("fid_midpoints_lerp") == [6]
    assert first.deviation("fid_midpoints_lerp") != first.deviation("fid_midpoints_lerp")
    told = said(comparison, tmp_path)
    assert "penalty.lam=0.003: 2 runs, 1 seed. Of the runs with seed 0 only the newest counts" in told
    assert "2 runs, 1 seed" in comparison_markdown(comparison)
    assert "(again, not counted)" in html(comparison, {})
    rows = list(csv.DictReader(io.StringIO(as_csv(all_numbers(comparison)))))
    assert [row["counts"] for row in rows] == ["False", "True", "True"]
    three = made(tmp_path / "b", fid(4), fid(6, 1), fid(8, 1))
    assert three.groups[0].values("fid_midpoints_lerp") == [4, 8]
    assert three.groups[0].size == "3 runs, 2 seeds"


def test_interrupted_runs_of_a_group_are_named(tmp_path):
    told = said(made(tmp_path, fid(4), fid(5, 1, **{"budget.images": 3000})), tmp_path)
    assert "its runs have seen from 3,000 to 275,000 images" in told


def test_one_and_one_point_nought_are_the_same_setting(tmp_path):
    assert len(made(tmp_path, fid(1, 0, 1), fid(1, 1, 1.0)).groups) == 1


@pytest.mark.parametrize("key", ["limit_train_batches", "overfit_batches", "val_check_interval"])
def test_one_batch_and_all_batches_are_different_settings(key, tmp_path):
    runs = [{"config.trainer": {key: value}, "seed": seed} for value in (1, 1.0, 0.5) for seed in (0, 1)]
    comparison = made(tmp_path, *runs)
    assert [group.label.partition(", ")[2] for group in comparison.groups] == [
        f"trainer.{key}={value}" for value in ("1", "1.0", "0.5")
    ]
    table = html(comparison, {}).partition("</table>")[0]
    assert re.findall(r'<tr><td class="text key"[^>]*>([^<]*)', table) == ["1", "1.0", "0.5"]


KEYS = ["a", "model.lam", "penalty.lam", "penalty.x", "network._target_", "data.batch_size", "n.b"]
VALUES = [None, True, 1, 1.0, "1", "true", "null", "x" * 50 + "1", "x" * 50 + "2", [1], "a, b", "\n"]


@settings(max_examples=20)
@given(
    several=st.lists(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)), min_size=2, max_size=5),
    two_data=st.booleans(),
)
def test_curves_that_differ_have_different_legends(several, two_data, room):
    runs = []
    for number, config in enumerate(several):
        content = changed(("data", "digits" if two_data and number % 2 else "mnist"))
        for name, value in config.items():
            group, _, key = name.rpartition(".")
            (content["config"].setdefault(group, {}) if group else content["config"])[key] = value
        runs.append(write(room / f"label{number}", content))
    comparison = collect(runs, across_data=True)
    found = [group.label for group in comparison.groups]
    assert len(set(found)) == len(found)
    settings_of = {json.dumps([each.content["data"], each.settings], sort_keys=True) for each in comparison.results}
    assert len(found) == len(settings_of)
    for name, figure in (
        comparison_figures.trade_off(comparison) | comparison_figures.against_lambda(comparison)
    ).items():
        (legend,) = figure.legends
        entries = [entry.get_text() for entry in legend.get_texts()]
        looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in legend.get_lines()]
        assert len(set(entries)) == len(entries) == len(set(looks)), name
        lines = [each[0] for axes in figure.axes for each in axes.containers]
        assert {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines} <= set(looks)


def test_classes_are_told_apart_by_the_names_of_their_files():
    paper = changed(("config.network._target_", "a.Paper"), ("config.choices.network", "acai"))
    found = labels([Result(Path(), VALID), Result(Path(), paper)])
    assert found == ["acai × wasserstein, network=fast", "acai × wasserstein, network=acai"]
    paper["config"]["choices"]["network"] = "fast"
    assert labels([Result(Path(), VALID), Result(Path(), paper)])[1].endswith(", network._target_=a.Paper")


def test_looks_do_not_repeat():
    assert len({tuple(comparison_figures._look(number).items()) for number in range(400)}) == 400


def test_nothing_worse_than_fading_pixels_over_is_marked(tmp_path):
    runs = [
        fid(value, seed, lam, **{"metrics.realism_lerp": 0.3}) for value, lam in ((16, 1), (30, 2)) for seed in (0, 1)
    ]
    comparison = made(tmp_path, *runs)
    for name in ("fid_midpoints_lerp", "evenness_lerp", "detour_lerp", "path_length_lerp"):
        assert comparison.leading(name) == []
    told = said(comparison, tmp_path)
    assert (
        "No run's midpoints (lerp) beat fading pixels over (FID 15), so nothing is marked best in midpoint FID, "
        "own-speed path length." in told
    )
    assert (
        "No run's paths (lerp, own speed) beat fading pixels over (realism 40.0%), so nothing is marked best in "
        "own-speed realism, own-speed max/mean step." in told
    )


def test_even_paths_of_worthless_images_are_not_marked(tmp_path):
    runs = [
        fid(10, seed, lam, **{"metrics.evenness_lerp": even + 0.01 * seed, "metrics.realism_lerp": real})
        for real, lam, even in ((0.5, 1, 1.9), (0.3, 2, 1.1), (0.6, 3, 2.0), (0.7, 4, 2.5))
        for seed in (0, 1)
    ]
    comparison = made(tmp_path, *runs)
    assert [group.label[-1] for group in comparison.leading("evenness_lerp")] == ["1"]
    assert (
        "penalty.lam=2 has the best number in own-speed max/mean step, but is not marked: its paths (lerp, own speed) "
        "do not beat fading pixels over (realism 40.0%)." in said(comparison, tmp_path)
    )


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("fid_prior", 500, 900), ("realism_midpoints_lerp", 0.05, 0.01), ("evenness_lerp", 2.2, 3)],
)
def test_each_metric_is_held_against_its_own_sanity_number(name, first, second, tmp_path):
    runs = [
        fid(10, seed, lam, **{f"metrics.{name}": value + 0.001 * seed})
        for lam, value in ((1, first), (2, second))
        for seed in (0, 1)
    ]
    assert made(tmp_path, *runs).leading(name) == []


def test_a_lead_within_the_spread_is_none(tmp_path):
    comparison = made(tmp_path, *(fid(9 + 2 * seed + 0.5 * lam, seed, lam) for lam in (1, 2) for seed in (0, 1)))
    assert comparison.leading("fid_midpoints_lerp") == []
    told = said(comparison, tmp_path)
    assert "All are within the spread over seeds in midpoint FID" in told
    close = made(tmp_path, *(fid(14.9 + seed / 2 + 9 * lam, seed, lam) for lam in (0, 1) for seed in (0, 1)))
    assert close.leading("fid_midpoints_lerp") == []  # nor is one over fading pixels over


def test_one_seed_is_no_evidence(tmp_path):
    comparison = made(tmp_path, fid(4, lam=1), fid(9, lam=2))
    assert not any(row.best for table in tables(comparison) for row in table.rows)
    told = said(comparison, tmp_path)
    assert "Nothing is marked best, because each setting has one seed (train several, such as -m seed=0,1,2)." in told
    mixed = made(tmp_path / "b", fid(4, lam=1), fid(9, 0, 2), fid(9.5, 1, 2))
    assert [group.label[-1] for group in mixed.leading("fid_midpoints_lerp")] == ["1"]
    assert "Settings with one seed are judged by the spread of the others" in said(mixed, tmp_path)


def test_unlike_protocols_rank_nothing(tmp_path):
    runs = [fid(4 + seed / 9, seed, lam, **{"protocol.images": 10 + lam}) for lam in (1, 2) for seed in (0, 1)]
    comparison = made(tmp_path, *runs)
    assert comparison.leading("fid_midpoints_lerp") == []
    assert "Nothing is marked best, because the runs were measured by different protocols" in said(comparison, tmp_path)


def test_a_runs_own_report_says_what_is_worthless(tmp_path):
    shown = show_everywhere(made(tmp_path, fid(16)), tmp_path)
    assert "The midpoints (lerp) do not beat fading pixels over (FID 15)." in shown["terminal"]


@pytest.mark.parametrize(("noise", "blind"), [(0.0, False), (1.0, True)])
def test_a_judge_that_takes_noise_for_real_is_named(noise, blind, tmp_path):
    more = {"metrics.precision_reconstructions": 0.0, "sanity.precision_noise": noise}
    shown = show_everywhere(made(tmp_path, fid(9, **more)), tmp_path)["terminal"]
    assert ("Precision, membership and score show little here: the judge takes 100% of noise for" in shown) is blind
    assert ("The reconstructions do not beat noise (precision 0.0%)." in shown) is not blind


@pytest.mark.parametrize(("realism", "told"), [(0.9, False), (0.3, True)])
def test_short_and_even_steps_are_no_duel_at_constant_speed(realism, told, tmp_path):
    numbers = {"realism": realism, "evenness": 1.15, "detour": 2.9}
    faded = {"realism": 0.4, "evenness": 1.02, "detour": 1.5}
    more = {f"metrics.{name}_graph_constant": value for name, value in numbers.items()}
    more |= {f"sanity.{name}_blend_constant": value for name, value in faded.items()}
    shown = show_everywhere(made(tmp_path, fid(9, **more)), tmp_path)
    assert ("The paths (graph) do not beat fading pixels over (realism 40.0%)." in shown["terminal"]) is told
    assert "detour 1.5" not in shown["terminal"]


def test_nothing_is_marked_where_fading_pixels_wins(tmp_path):
    faded = {"sanity.realism_blend_constant": 0.5, "sanity.detour_blend_constant": 1.1}
    runs = [
        fid(
            9,
            seed,
            lam,
            **{f"metrics.{name}_graph_constant": lam + seed / 9 for name in ("detour", "realism")},
            **faded,
        )
        for lam in (1, 2)
        for seed in (0, 1)
    ]
    comparison = made(tmp_path, *runs)
    assert [group.label[-1] for group in comparison.leading("realism_graph_constant")] == ["2"]
    assert comparison.leading("detour_graph_constant") == []
    assert "Nothing is marked best in detour: no path is better there than fading pixels over." in said(
        comparison, tmp_path
    )


@pytest.mark.parametrize("detour", [1.05, 3.0])
def test_a_detour_at_a_paths_own_speed_is_no_duel_either(detour, tmp_path):
    runs = [fid(9, seed, lam, **{"metrics.detour_lerp": detour + lam + seed / 9}) for lam in (1, 2) for seed in (0, 1)]
    comparison = made(tmp_path, *runs)  # realism beats that of fading pixels over
    assert comparison.leading("detour_lerp") == []
    told = said(comparison, tmp_path)
    assert "Nothing is marked best in own-speed detour: no path is better there than fading pixels over." in told
    assert "detour 1.3" not in told


def test_curves_show_sanity_numbers_as_lines_on_an_axis_that_begins_at_nought(tmp_path):
    comparison = made(tmp_path, *(fid(value, 0, lam) for value, lam in ((30, 0), (20, 0.01), (10, 1))))
    figure = comparison_figures.against_lambda(comparison)["against_penalty_lam"]
    (axes,) = (each for each in figure.axes if each.get_ylabel().startswith("FID of midpoints, lerp"))
    lines = {line.get_ydata()[0] for line in axes.lines if line.get_linewidth() == 1}  # curves are thicker
    sanity = VALID["sanity"]
    assert lines == {sanity["fid_real"], sanity["fid_midpoints_blend"]}
    assert {"pixels faded over", "real images"} < {text.get_text() for text in figure.legends[0].get_texts()}
    low, high = axes.get_xlim()
    assert low > -0.005
    assert high > 1


def test_a_sheet_leaves_a_gap_for_a_kind_of_path_that_a_setting_lacks():
    strip = torch.full((2, 5, 1, 8, 8), -1.0)  # black
    strip[:, -1] = 0  # grey
    figure = comparison_figures.sheet({"lam=1": {"graph": strip, "lerp": strip}, "lam=2": {"lerp": strip}}, "Sheet")
    (axes,) = figure.axes
    (picture,) = axes.images
    cells = torch.as_tensor(picture.get_array())[::9, ::9]  # a pixel of each
    assert cells.shape == (7, 11)
    shades = [[round(cell.item() * 4) for cell in row] for row in cells]
    path, fading, gap = [0, 0, 0, 0, 2], [0, 0, 1, 2, 2], 4
    block = [[*path, gap, *path], [*[gap] * 6, *path], [*fading, gap, *fading]]
    assert shades == [*block, [gap] * 11, *block]
    names = ["lam=1", "lam=2", "pixels faded over"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*names, "", *names]


def test_pairs_say_which_path_they_show_and_end_with_fading_pixels():
    x = torch.stack([torch.full((1, 8, 8), value) for value in (-1.0, 1.0)])
    figure = side_by_side([("a", Still()), ("b", Still())], x, 3)["pair_1"]
    (axes,) = figure.axes
    assert " ".join(axes.get_title().split()) == "Pair 1: straight lines between codes (lerp), at their own speed"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "pixels faded over"]
    cells = torch.as_tensor(axes.images[0].get_array())[::9, ::9]
    assert cells[-1].tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.pictures
def test_labels_of_a_trade_off_stay_within_its_frame_and_are_not_struck_through(tmp_path):
    runs = [
        {"config.penalty.lam": lam, "metrics.reconstruction_mse": mse, "metrics.fid_midpoints_lerp": value}
        for lam, mse, value in ((0.0003, 0.028, 4), (0.001, 0.032, 3), (0.01, 0.059, 12))
    ]
    figure = comparison_figures.trade_off(made(tmp_path, *runs))["trade_off"]
    image_grids.pixels_of(figure)  # lays it out
    (axes,) = figure.axes
    frame = axes.get_window_extent()
    assert len(axes.texts) == 3
    for label in axes.texts:
        box = label.get_window_extent()
        assert frame.x0 < box.x0
        assert box.x1 < frame.x1
        assert frame.y0 < box.y0
        assert box.y1 < frame.y1
        assert label.get_bbox_patch().get_facecolor()[:3] == (1, 1, 1)
        assert label.zorder > max(line.zorder for line in axes.lines)
