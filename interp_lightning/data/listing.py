"""List the pictures of a folder once, and divide them into splits and classes by their names."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from interp_lightning.data.contract import UNLABELLED
from interp_lightning.data.files import known_formats
from interp_lightning.errors import DataError
from interp_lightning.system.text import counted, printable, shortened

SPLIT_SEED = 0  # the split belongs to the folder, not to the run
HELD_OUT, MOST_HELD_OUT = 0.1, 10_000  # pictures for validation, and as many for testing
LEAST = 2  # pictures to train on, and to test with: a path has two ends
OWN_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NO_FILE = "links that lead nowhere, pipes and devices"
SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Listing:
    """The files in a folder and below it.

    Args:
        root: the folder.
        names: paths of pictures relative to `root`, with "/", sorted within each folder.
        others: number of all other files, by their endings in lower case.
        digest: hexadecimal digest of the pictures' names and sizes.
    """

    root: str
    names: list[str]
    others: Counter[str]
    digest: str

    @property
    def skipped(self) -> str:
        """Description of the other files, "" if there are none."""
        number = self.others.total()
        endings = [ending or "no ending" for ending, _ in self.others.most_common()]
        return f"{counted(number, 'other file')} ({in_words(endings)})" if number else ""


@dataclass(frozen=True)
class Division:
    """Pictures in splits and classes.

    Args:
        train, val, test: positions in the listing, (n,) each, in mixed order.
        labels: of every picture in the listing, (N,); all −1 without classes.
        classes: their names.
        remarks: half sentences about what a user may not expect.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    remarks: tuple[str, ...]


def list_pictures(root: str) -> Listing:
    """List all files in a folder and below it; skip hidden ones, and follow links.

    A file is a picture by its ending. No file is opened.

    Raises:
        DataError: the folder is missing, cannot be read, or holds no pictures.
    """
    named = f"`data.root` (={printable(root)})"
    if not os.path.isdir(root):
        found = "is a file, not a folder; unpack it if it is an archive" if os.path.exists(root) else "does not exist"
        raise DataError(f"{named} {found}; name the folder of your pictures")
    endings, others = picture_endings(), Counter[str]()
    names, digest = list[str](), hashlib.sha256()
    for name, size in _files(root, "", (os.path.realpath(root),)):
        ending = os.path.splitext(name)[1].lower()
        if size is None:
            others[NO_FILE] += 1
        elif ending in endings:
            names.append(name)
            digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
        else:
            others[ending] += 1
    listing = Listing(root, names, others, digest.hexdigest())
    if not names:
        raise DataError(
            f"{named} holds no pictures{listing.skipped and f', only {listing.skipped}'}; name a folder with files "
            "that end in .png, .jpg, .webp, .gif, .bmp, .tif or the like"
        )
    return listing


def picture_endings() -> frozenset[str]:
    """Return the endings of files that this build of Pillow reads, in lower case.

    Example:
        >>> ".jpg" in picture_endings(), ".pdf" in picture_endings(), ".mp4" in picture_endings()
        (True, False, False)
    """
    known = known_formats()
    return frozenset(ending.lower() for ending, kind in Image.registered_extensions().items() if kind in known)


def _files(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, int | None]]:
    """Yield the relative paths of files below a folder, sorted, and their sizes in bytes; None for what is no file.

    Args:
        folder, prefix: its path, and that relative to the first one.
        above: its true path and those that lead to it.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"`data.root`: {printable(folder)} cannot be read ({error.strerror}); make it readable or move it away"
        ) from error
    for entry in found:
        try:
            kind = entry.stat()
        except OSError:  # a link that leads nowhere or to itself, or a file that has just been deleted
            yield prefix + entry.name, None
            continue
        if stat.S_ISDIR(kind.st_mode):
            true = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
            if true not in above:  # else a link that leads in a circle
                yield from _files(entry.path, f"{prefix}{entry.name}/", (*above, true))
        else:
            yield prefix + entry.name, kind.st_size if stat.S_ISREG(kind.st_mode) else None


def divide(listing: Listing) -> Division:
    """Divide pictures into three splits by a fixed seed, or by their folders; and into classes by their folders.

    Folders `train` and `val` (`valid`, `validation`) or `test` are splits. A missing one is held out from `train`, or
    without such folders from all pictures: a tenth each, 10,000 at most, in proportion from every class. Below that,
    the first folder is the class.

    Raises:
        DataError: there are too few pictures, or two folders for one split.
    """
    parts = [tuple(name.split("/")) for name in listing.names]
    level, remarks = _common(parts), list[str]()
    tops = np.array([each[level] if len(each) > level + 1 else "" for each in parts])
    own = _own_splits(listing.root, [str(top) for top in np.unique(tops)], remarks)
    everything = np.arange(len(parts))
    found = {split: everything[tops == folder] for split, folder in own.items()} or {"train": everything}
    used = np.concatenate([*found.values()])
    labels, classes = _labels(parts, used, level + bool(own), remarks)
    train, whole = found["train"], len(found["train"])
    for seed, split in enumerate(("test", "val"), SPLIT_SEED):
        if split not in found:
            train, found[split] = _held_out(train, labels, whole, LEAST if split == "test" else 0, seed)
    if min(len(train), len(found["test"])) < LEAST:
        raise DataError(
            f"`data.root` (={printable(listing.root)}) holds {counted(len(used), 'picture')}, {len(train)} to train on "
            f"and {len(found['test'])} to test with, but must hold at least {LEAST} and {LEAST}; add pictures"
        )
    if classes:
        numbers = np.bincount(labels[train], minlength=len(classes))
        unseen = [classes[index] for index in np.flatnonzero(numbers == 0)]
        single = [classes[index] for index in np.flatnonzero(np.bincount(labels[used]) == 1)]
        if unseen:
            remarks.append(f"no training picture is of {in_words(unseen)}")
        if single:
            remarks.append(f"only one picture each is of {in_words(single)}")
    # Mixed, because metrics and figures take the first images, which would be of one class.
    mix = np.random.default_rng(SPLIT_SEED).permutation
    return Division(mix(train), mix(found["val"]), mix(found["test"]), labels, classes, tuple(remarks))


def _common(parts: Sequence[tuple[str, ...]]) -> int:
    """Return the number of leading folders that all paths share.

    Example:
        >>> _common([("a", "b", "1.png"), ("a", "b", "c", "2.png")]), _common([("1.png",), ("2.png",)])
        (2, 0)
    """
    first, last = min(parts), max(parts)
    shared = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(shared, *(len(each) - 1 for each in (first, last)))


def _own_splits(root: str, tops: Sequence[str], remarks: list[str]) -> dict[str, str]:
    """Return the folder of each split; empty if there is none for training, or none beside it."""
    own: dict[str, str] = {}
    for top in tops:
        split = OWN_SPLITS.get(top.lower())
        if split in own:
            raise DataError(
                f"`data.root` (={printable(root)}) has two folders for one split, {own[split]} and {top}; join or "
                "rename them"
            )
        if split:
            own[split] = top
    if "train" not in own or len(own) < 2:
        return {}
    beside = [top or "pictures" for top in tops if top not in own.values()]
    if beside:
        remarks.append(f"{in_words(beside)} beside the folders {in_words([*own.values()])} will not be used")
    return own


def _labels(
    parts: Sequence[tuple[str, ...]], used: np.ndarray, level: int, remarks: list[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a label for each picture and the names of the classes; −1 and none if they are not in such folders."""
    of = np.array([each[level] if len(each) > level + 1 else "" for each in parts])
    names, number = np.unique(of[used], return_counts=True)
    loose = int(number[names == ""].sum())
    without = np.full(len(parts), UNLABELLED), ()
    if len(names) > 1 and loose:
        folders = counted(len(names) - 1, "folder")
        remarks.append(f"{counted(loose, 'picture')} beside {folders} would have no label, so none has")
        return without
    if len(names) > 1 and number.max() == 1:
        remarks.append("every folder has one picture only, so they are not taken for classes")
        return without
    if len(names) < 2:
        return without
    labels = np.searchsorted(names, of).clip(max=len(names) - 1)
    return np.where(names[labels] == of, labels, UNLABELLED), tuple(map(str, names))


def _held_out(
    items: np.ndarray, labels: np.ndarray, whole: int, least: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the items that remain and those held out, a tenth of `whole`, evenly over the classes.

    The only picture of a class remains, unless others are too few.
    """
    number = min(MOST_HELD_OUT, max(least, round(whole * HELD_OUT)))
    if number < LEAST or len(items) < number:
        number = min(least, len(items))
    mixed = np.random.default_rng(seed).permutation(items)
    mixed = mixed[np.argsort(labels[mixed], kind="stable")]
    alone = np.bincount(labels[mixed] + 1)[labels[mixed] + 1] == 1
    able = mixed[~alone] if (~alone).sum() >= 2 * number else mixed
    held = np.sort(able[((np.arange(number) + 0.5) * len(able) / max(number, 1)).astype(int)])
    return np.setdiff1d(items, held, assume_unique=True), held


def in_words(names: Sequence[str]) -> str:
    """List names for a sentence, at most five.

    Example:
        >>> in_words(["a"]), in_words([*"abcdefg"])
        ('a', 'a, b, c, d, e and 2 more')
    """
    short = [shortened(printable(name), 60) for name in names[:SHOWN]]
    if len(names) > SHOWN:
        return f"{', '.join(short)} and {len(names) - SHOWN:,} more"
    return " and ".join([", ".join(short[:-1])] * bool(short[:-1]) + short[-1:])
