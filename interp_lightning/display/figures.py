"""Draw a trained model, as matplotlib figures."""

import io
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator
from PIL import Image
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.display.grid import faded, heading, image_grid, legend_label, literal, pixels_of
from interp_lightning.evaluation.assessment import Assessment, Profile
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.catalogue import HOW, IMAGES, WAYS
from interp_lightning.models.base import Autoencoder
from interp_lightning.paths import base as paths
from interp_lightning.paths.base import named
from interp_lightning.system.disk import replace

log = logging.getLogger(__name__)

ROWS = 10
STEPS = 11  # points on a path
DASHES = {"blend": "--", "transport": ":"}  # of the baselines' curves, which are grey
SMOOTHED = 50  # part of a curve over which it is smoothed, to each side

Look = Callable[[Tensor], Tensor] | None  # see `Autoencoder.interpolate`
History = Mapping[str, Sequence[tuple[int, float]]]  # (images seen, value) by TensorBoard name


def examples(data: ImageData) -> Tensor:
    """Return the test images for figures: 20, or an even number if there are fewer, (2n, C, H, W)."""
    number = min(2 * ROWS, len(data.test) // 2 * 2)
    return to_unit_range(data.test.batch(data.test.all()[:number])[0])


def of_model(model: Autoencoder, x: Tensor, title: str) -> dict[str, Figure]:
    """Draw interpolations and reconstructions of images (2n, C, H, W), and prior samples; figures by file name.

    Paths that must be fitted to the model first are not among them.
    """
    everywhere = {how: path for how in HOW if not (path := named(how)).fits}
    return draw(
        {
            **{f"interpolation_{how}": partial(interpolations, model, x, title, how) for how in everywhere},
            "reconstructions": partial(reconstructions, model, x, title),
            "prior_samples": partial(prior_samples, model, title),
        }
    )


def of_assessment(assessment: Assessment, model: Autoencoder, data: ImageData, title: str) -> dict[str, Figure]:
    """Draw the outcome of an evaluation, with every kind of path between test images; figures by file name."""
    look, kinds = assessment.space.look, assessment.paths

    def along(how: str) -> Figure:
        x = examples(data).to(model.device)
        return interpolations(model, x, title, how, path=kinds[how], look=look)

    pictures: dict[str, Callable[[], Figure]] = {
        "latent_scatter": partial(latent_scatter, assessment.test.z, assessment.test.labels, title, data.class_names),
        "samples": lambda: samples(model, examples(data), title, assessment.samples),
        "paths": lambda: paths_compared(model, examples(data).to(model.device), title, kinds, look),
        **{f"interpolation_{how}": partial(along, how) for how in kinds},
    }
    if assessment.profiles:
        pictures["path_profile"] = partial(path_profile, assessment.profiles, title)
    return draw(pictures)


def draw(pictures: Mapping[str, Callable[[], Figure]]) -> dict[str, Figure]:
    """Draw pictures by file name; skip those that cannot be drawn."""
    drawn = {}
    for name, picture in pictures.items():
        with skipping(name):
            drawn[name] = picture()
    return drawn


@contextmanager
def skipping(picture: str, kind: str = "picture") -> Iterator[None]:
    """Turn an exception from drawing or writing a picture into a warning: a run must not fail for a picture."""
    try:
        yield
    except OSError as error:
        where = error.filename or picture
        log.warning(f"{where} could not be written ({error.strerror or error}); continuing without this {kind}")
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        log.warning(f"{picture} could not be drawn ({reason}); continuing without this {kind}")


def save(drawn: dict[str, Figure], folder: Path) -> None:
    """Write figures as PNG files; a link in place of a file is replaced, not followed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        replace(folder / f"{name}.png", png(figure))


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    # Smaller files would take several times as long: zlib's default level is 6.
    Image.fromarray(pixels_of(figure)).save(file, "png", dpi=(figure.dpi, figure.dpi), compress_level=3)
    return file.getvalue()


def interpolations(
    model: Autoencoder,
    x: Tensor,
    title: str,
    how: str,
    path: paths.Path | None = None,
    look: Look = None,
) -> Figure:
    """Draw paths from the first half of x (2n, C, H, W) to the second half, with the images themselves at both ends.

    Args:
        path: of the kind `how`, if it must be fitted.
        look: see `Autoencoder.interpolate`.
    """
    images = strips(model, x, STEPS, path or how, look)
    return image_grid(images, f"Interpolation ({how}, {_speed(look)})\n{title}", columns=path_columns(STEPS))


def paths_compared(
    model: Autoencoder, x: Tensor, title: str, kinds: Mapping[str, paths.Path], look: Look, steps: int = STEPS
) -> Figure:
    """Draw every pair by every kind of path, a row for each kind, and last by fading pixels."""
    x_a, x_b = x.cpu().chunk(2)
    drawn = [strips(model, x, steps, path, look) for path in kinds.values()]
    rows = torch.stack([*drawn, torch.cat([x_a[:, None], faded(x, steps), x_b[:, None]], 1)], dim=1)
    names = [*kinds, "pixels fade"] * len(rows)
    title = f"Kinds of paths, {_speed(look)}\n{title}"
    return image_grid(rows.flatten(0, 1), title, names, path_columns(steps), block=rows.shape[1])


def strips(model: Autoencoder, x: Tensor, steps: int, how: str | paths.Path, look: Look) -> Tensor:
    """Return paths from the first half of x to the second, with both images themselves, (n, steps + 2, C, H, W)."""
    x_a, x_b = x.chunk(2)
    decoded = model.interpolate(x_a, x_b, steps, how, look).cpu()
    return torch.cat([x_a.cpu()[:, None], decoded, x_b.cpu()[:, None]], dim=1)


def _speed(look: Look) -> str:
    return "own speed" if look is None else "constant speed"


def path_columns(steps: int) -> list[str]:
    """Return the column names of a path between two images."""
    digits = 1 if 10 % (steps - 1) == 0 else 2
    return ["image", *(f"{step / (steps - 1):.{digits}f}" for step in range(steps)), "image"]


def reconstructions(model: Autoencoder, x: Tensor, title: str) -> Figure:
    """Draw images (2n, C, H, W) above their reconstructions, in one row or two of equal length."""
    columns = len(x) if len(x) <= ROWS else len(x) // 2
    x_hat = model.decode(model.encode(x))
    pairs = torch.stack([x.unflatten(0, (-1, columns)), x_hat.unflatten(0, (-1, columns))], dim=1).flatten(0, 1)
    return image_grid(pairs.cpu(), f"Reconstructions\n{title}", rows=["image", "decoded"] * (len(pairs) // 2))


def prior_samples(model: Autoencoder, title: str, rows: int = 6, columns: int = 10) -> Figure:
    """Draw decoded samples of the prior."""
    noise = torch.randn(rows * columns, model.latent_dim, generator=torch.Generator().manual_seed(0))
    images = model.decode(model.penalty.prior(noise.to(model.device)))
    return image_grid(images.unflatten(0, (rows, columns)).cpu(), f"Samples from the prior\n{title}")


def samples(model: Autoencoder, x: Tensor, title: str, codes: Mapping[str, Tensor]) -> Figure:
    """Draw images (2n, C, H, W) above decoded samples, two rows for each sampler.

    Args:
        codes: samples (N, d), by the name of their sampler in `metrics.catalogue.IMAGES`.
    """
    number = min(len(x), *map(len, codes.values())) // 2 * 2
    decoded = [model.decode(z[:number]).cpu() for z in codes.values()]
    rows = torch.stack([x[:number].cpu(), *decoded]).unflatten(1, (2, -1))
    names = [name for origin in ("test images", *codes) for name in (IMAGES.get(origin, origin), "")]
    return image_grid(rows.flatten(0, 1), f"Samples\n{title}", names)


def predictions(predicted: Tensor, target: Tensor, critic: str) -> Figure:
    """Draw a critic's predictions (M,) against the right answers (M,)."""
    figure = Figure(figsize=(3.6, 3.6), dpi=100)
    axes = figure.add_axes((0.18, 0.15, 0.78, 0.75))  # a layout engine would take half of the time
    right, said = target.float().cpu().numpy(), predicted.float().cpu().numpy()
    axes.axline((right.min(), right.min()), slope=1, color="0.6", lw=1)
    axes.scatter(right, said, s=4, alpha=0.5)
    axes.set_xlabel("right answer")
    axes.set_ylabel("prediction")
    axes.set_title(literal(f"predictions of {critic}", 40), fontsize=9)
    axes.grid(alpha=0.3)
    return figure


def latent_scatter(z: Tensor, labels: Tensor, title: str, names: Sequence[str] = ()) -> Figure:
    """Draw codes (N, d) on two principal components, coloured by label (N,) unless all labels are −1."""
    z = z.double().cpu()
    centred = z - z.mean(0)
    _, s, vt = torch.linalg.svd(centred, full_matrices=False)
    share = s.square() / s.square().sum().clamp_min(torch.finfo(s.dtype).tiny)  # 0 if all codes are equal
    plane = (centred @ vt[:2].T).numpy()
    if plane.shape[1] == 1:  # one-dimensional codes have no second component
        plane = plane.repeat(2, axis=1)

    figure = Figure(figsize=(6, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    classes = int(labels.max()) + 1
    if classes:
        colours = matplotlib.colormaps["tab10" if classes <= 10 else "hsv"].resampled(classes)
        points = axes.scatter(
            plane[:, 0], plane[:, 1], c=labels.cpu().numpy(), cmap=colours, s=4, vmin=-0.5, vmax=classes - 0.5
        )
        ticks = [literal(name, 20) for name in names[:classes]] or list(map(str, range(classes)))
        figure.colorbar(points, label="label").set_ticks(range(classes), labels=ticks)
    else:
        axes.scatter(plane[:, 0], plane[:, 1], s=4)
    axes.set_xlabel(f"principal component 1 ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"principal component 2 ({share[1:2].sum():.0%})")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(heading(f"Codes of the test images: principal components (PCA)\n{title}", 6), fontsize=9)
    return figure


def path_profile(profiles: Mapping[str, Profile], title: str) -> Figure:
    """Draw step length, class probability and entropy along the paths at their own speed, a curve for each kind."""
    panels = {
        "step length / mean step": lambda profile: profile.lengths / profile.lengths.mean(),
        "probability of the likeliest class": lambda profile: profile.confidence,
        "entropy of the classes (nats)": lambda profile: profile.entropy,
    }
    shown = {name: get for name, get in panels.items() if get(next(iter(profiles.values()))) is not None}
    figure = Figure(figsize=(4.2 * len(shown) + 1.2, 3.6), dpi=150, layout="constrained")
    for index, (name, get) in enumerate(shown.items()):
        axes = figure.add_subplot(1, len(shown), index + 1)
        for kind, profile in profiles.items():
            values = get(profile)
            ends = torch.linspace(0, 1, len(profile.lengths) + 1)
            at = ends if len(values) == len(ends) else (ends[1:] + ends[:-1]) / 2
            colour, dashes = ("0.5", DASHES[kind]) if kind in DASHES else (None, "-")
            axes.plot(at, values, marker=".", label=WAYS[kind], color=colour, linestyle=dashes)
        axes.set_xlabel("position on the path")
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside right upper")
    first = "Along the paths between test images at their own speed (means)"
    figure.suptitle(heading(f"{first}\n{title}", 4.2 * len(shown)), fontsize=9)
    return figure


def running_mean(values: Sequence[float]) -> list[float]:
    """Smooth a curve: at each point the mean of those around it, of a fiftieth of the curve to each side.

    Example:
        >>> running_mean([1.0, 4.0, 1.0])
        [1.0, 4.0, 1.0]
        >>> running_mean([0.0, 100.0] * 50)[50]
        40.0
    """
    reach = len(values) // SMOOTHED
    return [statistics.fmean(values[max(0, at - reach) : at + reach + 1]) for at in range(len(values))]


def loss_curves(history: History, title: str) -> Figure:
    """Draw each player's losses over the images seen: training pale, its running mean as a line, validation as dots."""
    players = ["autoencoder", *(["critic"] if any("/critic/" in name for name in history) else [])]
    figure = Figure(figsize=(5.5 * len(players), 4), dpi=150, layout="constrained")
    for index, player in enumerate(players):
        axes = figure.add_subplot(1, len(players), index + 1)
        terms = [name.split("/")[2] for name in history if name.startswith(f"train/{player}/")]
        for colour, term in enumerate(terms):
            training, label = history[f"train/{player}/{term}"], legend_label(term)
            images, values = zip(*training, strict=True)
            alone = "." * (len(training) == 1)  # a single point has no line
            axes.plot(images, values, color=f"C{colour}", lw=0.5, alpha=0.3)
            axes.plot(images, running_mean(values), color=f"C{colour}", lw=1.2, marker=alone, label=label)
            if validation := history.get(f"val/{player}/{term}"):
                dots = zip(*validation, strict=True)
                axes.plot(*dots, color=f"C{colour}", ls="", marker="o", ms=4, label=f"{label} (validation)")
        # A penalty may be negative and a term 0: not for a plain logarithmic axis.
        axes.set_yscale("symlog", linthresh=1e-3)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1e-3, subs=[1, 2, 5]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.set_xlabel("images seen")
        axes.set_title(player, fontsize=9)
        axes.legend(fontsize=7)
    figure.suptitle(heading(f"Losses, weighted as minimised\n{title}", 5.5 * len(players)), fontsize=9)
    return figure
