"""Own data: any split is refused in a sentence before training, or trained on, measured and drawn to the end."""

import json
import logging
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, at_batch, choices, draw
from hypothesis import given, note
from hypothesis import settings as budget
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import to_pil_image

from interp_lightning.commands import compare, evaluate, interpolate
from interp_lightning.commands.settings import read_settings
from interp_lightning.data.base import ImageData
from interp_lightning.data.contract import LOOKS, spread
from interp_lightning.data.loaders import EvaluationLoader, TrainingLoader
from interp_lightning.data.sources import InMemory, OnDisk, Source
from interp_lightning.display import figures
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.functional.images import to_unit_range
from interp_lightning.paths.base import named

SPLITS = ("training", "validation", "test")
SHAPE, CLASSES = (3, 8, 8), 4
Pair = namedtuple("Pair", "image label")


class Own(ImageData):
    """A data set whose `load` returns what it is given."""

    name = "own"
    image_shape, classes, epochs = SHAPE, CLASSES, 1

    def __init__(self, loaded: Any = None, batch_size: int = 2, seed: int = 0, fallback: str | None = None) -> None:
        super().__init__(batch_size, seed, fallback)
        self.loaded = loaded

    def load(self) -> Any:
        return self.loaded


class Items(Dataset):
    """Images and labels one by one, as some function makes an item of them."""

    def __init__(self, images: Any, labels: Any, item: Callable[[Any, Any], Any] = lambda x, y: (x, y)) -> None:
        self.images, self.labels, self.item = images, labels, item

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.item(self.images[index], self.labels[index])


class Stream(IterableDataset):
    """Images in their own order, which cannot be asked for by index."""

    def __iter__(self) -> Any: ...

    def __len__(self) -> int:
        return 8


def good(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of all brightnesses, and labels of which each is there."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (number, *SHAPE), dtype=torch.uint8, generator=generator)
    return images, torch.arange(number) % CLASSES


def splits(**others: Any) -> tuple[Any, ...]:
    """Three splits, of which some are given."""
    return tuple(others.get(split, InMemory(*good(8, seed))) for seed, split in enumerate(SPLITS))


def said_of(loaded: Any, kind: type[ImageData] = Own) -> str:
    """The sentence with which `setup` refuses."""
    with pytest.raises(DataError) as caught:
        kind(loaded).setup()
    sentence = str(caught.value)
    assert sentence.startswith(kind.__name__)
    assert len(sentence.splitlines()) == 1
    return sentence


# The whole kind

NEUTRAL: dict[str, Callable[[Tensor], Any]] = {
    "bytes": lambda x: x,
    "float": lambda x: x / 127.5 - 1,
    "double": lambda x: x.double() / 127.5 - 1,
    "half": lambda x: x.half() / 127.5 - 1,
    "bfloat16": lambda x: x.bfloat16() / 127.5 - 1,
    "a little beyond": lambda x: 1.005 * (x / 127.5 - 1),
    "with gradient": lambda x: (x / 127.5 - 1).requires_grad_(),
    "strided": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "torchvision": tv_tensors.Image,
}
BAD_IMAGES: dict[str, Callable[[Tensor], Any]] = {
    "ToTensor": lambda x: x / 255,
    "halved twice": lambda x: x / 255 / 255,
    "to 255": lambda x: x.float(),
    "Normalize": lambda x: (x / 255 - 0.13) / 0.3,
    "negative": lambda x: x / 255 - 1,
    "constant": lambda x: torch.full_like(x, 7),
    "constant floats": lambda x: torch.zeros(x.shape),
    "bits": lambda x: (x > 127).to(torch.uint8),
    "sixteen greys": lambda x: x // 16,
    "NaN": lambda x: (x / 127.5 - 1).index_fill(0, torch.tensor([len(x) - 1]), torch.nan),
    "infinite": lambda x: (x / 127.5 - 1).masked_fill(x == x.max(), torch.inf),
    "integers": lambda x: x.long(),
    "truth values": lambda x: x > 127,
    "complex": lambda x: x.to(torch.complex64),
    "cropped": lambda x: x[:, :, :7, :7],
    "grey": lambda x: x[:, :1],
    "channels last": lambda x: x.movedim(1, -1),
    "flat": lambda x: x.flatten(1),
    "numpy": lambda x: x.numpy(),
    "lists": lambda x: x.tolist(),
    "names": lambda x: [f"{index}.png" for index in range(len(x))],
    "sparse": lambda x: x.to_sparse(),
}
PLAIN_LABELS: dict[str, Callable[[Tensor], Any]] = {
    **{str(kind): lambda y, kind=kind: y.to(kind) for kind in (torch.int64, torch.int32, torch.int16, torch.uint8)},
    "truth values": lambda y: y % 2 == 1,
}
NO_LABELS: dict[str, Callable[[Tensor], Any]] = {"-1": lambda y: torch.full_like(y, -1)}
BAD_LABELS: dict[str, Callable[[Tensor], Any]] = {
    "1-based": lambda y: y + 1,
    "one beyond": lambda y: y.index_fill(0, torch.tensor([len(y) - 1]), CLASSES),
    "negative": lambda y: y - 2,
    "floats": lambda y: y.float(),
    "one-hot": lambda y: torch.nn.functional.one_hot(y, CLASSES),
    "column": lambda y: y[:, None],
    "some": lambda y: y.index_fill(0, torch.tensor([len(y) // 2]), -1),
    "names": lambda y: [f"class {label}" for label in y],
    "floats in a list": lambda y: [float(label) for label in y],
    "tuples": lambda y: [(int(label), 1) for label in y],
}
BAD_IN_MEMORY: dict[str, Callable[[Tensor], Any]] = {
    "too few": lambda y: y[:-1],
    "list": lambda y: y.tolist(),
    "numpy": lambda y: y.numpy(),
}
ITEMS: dict[str, Callable[[Any, Any], Any]] = {
    "pair": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "named": lambda x, y: Pair(x, y),
    "int": lambda x, y: (x, int(y)),
    "numpy": lambda x, y: (x, np.int32(y)),
    "array": lambda x, y: (x, np.array(int(y))),
}
UNLABELLED_ITEMS: dict[str, Callable[[Any, Any], Any]] = {
    "None": lambda x, y: (x, None),
    "alone": lambda x, y: x,
    "1-tuple": lambda x, y: (x,),
}
BAD_ITEMS: dict[str, Callable[[Any, Any], Any]] = {
    "triple": lambda x, y: (x, y, "file.png"),
    "dict": lambda x, y: {"image": x, "label": y},
    "nothing": lambda x, y: None,
    "empty": lambda x, y: (),
    "nested": lambda x, y: ((x, x), y),
    "PIL": lambda x, y: (to_pil_image(x.to(torch.uint8)), y),
    "PIL alone": lambda x, y: to_pil_image(x.to(torch.uint8)),
    "numpy image": lambda x, y: (x.detach().float().numpy(), y),
}


@st.composite
def made(draw: st.DrawFn) -> tuple[tuple[Any, ...], str | None, bool]:
    """Three splits, the one of them that is wrong if any is, and whether they have labels; `note` says how made."""
    labelled = draw(st.booleans())
    wrong = draw(st.none() | st.sampled_from(SPLITS))
    loaded = []
    for seed, split in enumerate(SPLITS):
        images, labels = good(draw(st.integers(4, 80)), seed)
        on_disk = draw(st.booleans())
        item = ITEMS if labelled else ITEMS | UNLABELLED_ITEMS
        tables = {"image": NEUTRAL, "label": PLAIN_LABELS if labelled else NO_LABELS, "item": item}
        if split == wrong:
            # Images without labels have none to be wrong, and "some" of them would be all.
            bad = {"image": BAD_IMAGES, "item": BAD_ITEMS, "number": {}}
            bad |= {"label": BAD_LABELS | ({} if on_disk else BAD_IN_MEMORY)} if labelled else {}
            fault = draw(st.sampled_from([key for key in bad if on_disk or key != "item"]))
            if fault == "number":
                few = draw(st.sampled_from([1] if split == "validation" else [0, 1]))
                images, labels = images[:few], labels[:few]
            else:
                tables[fault] = bad[fault]
                if fault == "label":  # which int(…) could mend
                    tables["item"] = {name: ITEMS[name] for name in ("pair", "list", "named")}
        kinds = [draw(st.sampled_from(list(table))) for table in tables.values()]
        note(f"{split}, {'on disk' if on_disk else 'in memory'}, {len(images)} images: {kinds}")
        image, label, item = (table[kind] for table, kind in zip(tables.values(), kinds, strict=True))
        images, labels = image(images), label(labels)
        loaded.append(OnDisk(Items(images, labels, item), workers=0) if on_disk else InMemory(images, labels))
    return tuple(loaded), wrong, labelled


@given(made())
@budget(max_examples=200)
def test_any_split_is_refused_in_a_sentence_or_gives_batches_as_they_should_be(case):
    loaded, wrong, labelled = case
    if wrong:
        assert f"{wrong} " in said_of(loaded)
        return
    data = Own(loaded)
    data.setup()
    assert data.labelled == labelled
    for seed, source in enumerate((data.train, data.val, data.test)):
        expected, _ = good(len(source), seed)
        batches = [*EvaluationLoader(source, rank=0, world_size=1)]
        x = to_unit_range(torch.cat([images for images, _ in batches]))
        assert (x.dtype, x.requires_grad) == (torch.float32, False)
        torch.testing.assert_close(x, to_unit_range(expected), atol=0.02, rtol=0)
        assert all(labels.dtype == torch.int64 for _, labels in batches)
        found = torch.cat([labels for _, labels in batches]).tolist()
        assert set(found) <= set(range(CLASSES)) if labelled else set(found) == {-1}


@pytest.mark.parametrize(
    ("loaded", "sentence"),
    [
        (None, r"must return three splits, .* but returns None; return \(training, validation, test\)"),
        (splits()[:2], r"but returns 2; hold images back .* or use InMemory\(images\[:0\]\) for no validation"),
        ((*splits(), None), "but returns 4"),
        (splits()[0], "but returns InMemory"),
        (TensorDataset(*good(8)), "but returns TensorDataset"),
        ({split: InMemory(*good(8)) for split in SPLITS}, "dict with the keys training, validation, test"),
        (splits(test=TensorDataset(*good(8))), r"the test split is TensorDataset; wrap a Dataset as OnDisk\(dataset\)"),
        (splits(validation=None), r"the validation split is None"),
        (splits(training=good(8)), r"the training split is tuple \(Tensor, Tensor\).* as InMemory\(images, labels\)"),
        (splits(test=good(8)[0]), r"the test split is Tensor \(8, 3, 8, 8\) of uint8"),
        (splits(test=OnDisk(DataLoader(TensorDataset(*good(8))))), "OnDisk holds a DataLoader for the test split"),
        (splits(test=OnDisk(Stream())), "OnDisk holds a Stream for the test split"),
        (splits(test=OnDisk(Dataset())), "OnDisk holds a Dataset for the test split"),
    ],
)
def test_what_load_must_return(loaded, sentence):
    with pytest.raises(DataError, match=rf"^Own.*{sentence}"):
        Own(loaded).setup()


def test_a_list_of_splits_will_do():
    Own([*splits()]).setup()


@pytest.mark.parametrize(
    ("images", "way_out"),
    [
        (
            "ToTensor",
            r"float32 from 0 to 1, .*; multiply by 2 and subtract 1, or .* \(PILToTensor instead of ToTensor\)",
        ),
        (
            "to 255",
            "float32 from 0 to 255, but floats must lie in .*; divide by 127.5 and subtract 1, or hand over uint8",
        ),
        ("bits", "uint8 from 0 to 1, but uint8 must use 0 .* to 255 .*; multiply by 255"),
        ("sixteen greys", "uint8 from 0 to 15, .*; multiply by 17"),
        ("channels last", r"\(8, 8, 3\), .*; move the channels to the front by .movedim\(-1, -3\)"),
        ("cropped", r"\(3, 7, 7\), .* \(3, 8, 8\), as declared; resize, crop or pad .* image_shape = \(3, 7, 7\)"),
        ("NaN", "training image 7 is NaN or infinite in places"),
        ("numpy", r"ndarray \(8, 3, 8, 8\) of uint8, .*; use torch.from_numpy"),
    ],
)
def test_the_way_out_of_wrong_images(images, way_out):
    x, labels = good(8)
    with pytest.raises(DataError, match=way_out):
        Own(splits(training=InMemory(BAD_IMAGES[images](x), labels))).setup()


@pytest.mark.parametrize(
    ("labels", "way_out"),
    [
        ("1-based", "from 1 to 4, but must be from 0 to 3 with classes = 4, or all -1 for none; subtract 1"),
        ("one beyond", "from 0 to 4, .*; number the classes from 0, or declare classes = 5"),
        ("floats", r"float32, but must be integers; use labels.long\(\)"),
        ("one-hot", r"\(8, 4\) for 8 images, .*; turn one-hot labels into numbers by .argmax\(-1\)"),
        ("column", r"\(8, 1\) for 8 images, .*; drop the last dimension by .squeeze\(-1\)"),
        ("some", "1 of 8 training labels are -1, the first of them that of image 4, but either all or none may be"),
    ],
)
def test_the_way_out_of_wrong_labels(labels, way_out):
    x, right = good(8)
    with pytest.raises(DataError, match=way_out):
        Own(splits(training=InMemory(x, BAD_LABELS[labels](right)))).setup()


def test_labels_of_some_splits_only_are_refused():
    sentence = said_of(splits(training=InMemory(good(8)[0])))
    assert "only validation and test images have labels, but all splits or none must have them" in sentence


def test_without_classes_there_are_no_labels():
    class Unlabelled(Own):
        classes = 0

    data = Unlabelled([InMemory(good(8)[0])] * 3)
    data.setup()
    assert not data.labelled
    sentence = said_of(splits(), Unlabelled)
    assert "must be -1 with classes = 0; declare classes = 4, or no labels" in sentence


def test_floats_that_use_half_of_their_range_are_a_warning(caplog):
    images, labels = good(8)
    Own(splits(training=InMemory(images / 255 - 0.5, labels))).setup()
    assert "Own: the training images are float32 from -0.5 to 0.5; floats must use" in caplog.text


def test_a_split_that_was_refused_is_refused_again():
    data = Own(splits(test=InMemory(good(8)[0], good(8)[1] + 1)))
    for _ in range(2):
        with pytest.raises(DataError, match="test labels"):
            _ = data.train


@given(st.integers(0, 10**9))
def test_looks_are_few_and_reach_both_ends(number):
    looks = spread(number)
    assert looks == sorted(set(looks))
    assert len(looks) == min(number, LOOKS)
    assert not number or (looks[0], looks[-1]) == (0, number - 1)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"image_shape": (3, 32, 28)}, r"`Mine.image_shape` \(=\(3, 32, 28\)\) must be .* height = width"),
        ({"image_shape": (2, 32, 32)}, "1 .grey. or 3 .colour. channels"),
        ({"image_shape": (0, 32, 32)}, "image_shape"),
        ({"image_shape": (32, 32)}, "image_shape"),
        ({"image_shape": "3x32x32"}, "image_shape"),
        ({"image_shape": (3, 32.0, 32.0)}, "image_shape"),
        ({"classes": 2.5}, r"`Mine.classes` \(=2.5\) must be an integer ≥ 0"),
        ({"classes": -1}, "classes"),
        ({"classes": ["cat", "dog"]}, "classes"),
        ({"epochs": 0}, r"`Mine.epochs` \(=0\) must be ≥ 1"),
        ({"epochs": "5"}, "epochs"),
        ({"name": 5}, "name"),
        ({"features": "vgg"}, r"`Mine.features` \(='vgg'\) must be one of: digits, inception, own, or null"),
    ],
)
def test_declarations_are_checked_when_the_class_is_made(declared, sentence):
    with pytest.raises(ConfigError, match=sentence):
        type("Mine", (Own,), declared)


def test_an_object_may_declare_its_own_size():
    data = Own(tuple(InMemory(images[..., :4, :4], labels) for images, labels in [good(8)] * 3))
    data.image_shape = (3, 4, 4)
    data.setup()
    data = Own(splits())
    data.image_shape = (3, 8, 4)
    with pytest.raises(ConfigError, match=r"`Own.image_shape`"):
        data.setup()


# While items are read


class Late(Items):
    """The item of one index is another one, or none."""

    def __init__(self, number: int, index: int, late: Callable[[], Any]) -> None:
        super().__init__(*good(number))
        self.index, self.late = index, late

    def __getitem__(self, index: int) -> Any:
        return self.late() if index == self.index else super().__getitem__(index)


def fail() -> None:
    raise KeyError("no such\nfile")


LATE: dict[str, tuple[Callable[[], Any], str]] = {
    "size": (lambda: (good(1)[0][0, :, :7, :7], 0), r"the image of training item 100 is \(3, 7, 7\)"),
    "type": (lambda: (good(1)[0][0] / 127.5 - 1, 0), "item 100 is float32, but others are uint8"),
    "label": (lambda: (good(1)[0][0], CLASSES), "the label of training item 100 is 4, but must be from 0 to 3"),
    "no label": (lambda: good(1)[0][0], "the label of training item 100 is -1, but others are labelled"),
    "triple": (lambda: (1, 2, 3), "training item 100 is tuple"),
    "error": (fail, rf"^Own: reading training item 100 raises KeyError: 'no such\\nfile' \({__file__}:\d+\)$"),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("late", LATE)
def test_an_item_that_is_wrong_later_is_named(late, workers):
    make, sentence = LATE[late]
    assert 100 not in spread(150)
    data = Own(splits(training=OnDisk(Late(150, 100, make), workers)))
    data.setup()
    with pytest.raises(DataError, match=sentence) as caught:
        list(TrainingLoader(data.train, 10, seed=0, rank=0, world_size=1))
    assert len(str(caught.value).splitlines()) == 1


def test_errors_of_load_are_the_users():
    class Missing(Own):
        def load(self) -> Any:
            return open("/nowhere/images.npy")

    def mine() -> Iterator[Any]:
        yield from {}["train"]

    class Broken(Own):
        def load(self) -> Any:
            return np.stack(list(mine()))  # the last place of the user's own is in mine()

    line = mine.__code__.co_firstlineno + 1
    assert said_of(None, Broken) == f"Broken.load() raises KeyError: 'train' ({__file__}:{line})"
    assert said_of(None, Missing).startswith("Missing.load() raises FileNotFoundError: [Errno 2] No such file")
    with pytest.raises(DataError) as caught:
        Missing().setup()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_run_says_that_an_error_is_the_users(invoke):
    def before() -> None:
        Own.load = lambda self: 1 // 0

    status, output = invoke(*TINY, f"data._target_={__name__}.Own", before=before)
    assert status == 1
    assert "Own.load() raises ZeroDivisionError" in output
    assert "Traceback" not in output
    assert "error of the program's own" not in output


# Whole runs, of what is small or has no labels


class Small(Own):
    """Few images: its sizes, labels and container can be chosen."""

    image_shape = (1, 32, 32)

    def __init__(self, sizes: Any, labelled: bool = True, disk: bool = False, **others: Any) -> None:
        super().__init__(**others)
        self.sizes, self.has_labels, self.disk = sizes, labelled, disk

    def load(self) -> Any:
        loaded = []
        for seed, number in enumerate(self.sizes):
            images, labels = good(max(number, 2), seed)
            images = images[:number, :1].repeat_interleave(4, 2).repeat_interleave(4, 3)
            labels = labels[:number] if self.has_labels else None
            items = TensorDataset(images) if labels is None else TensorDataset(images, labels)
            loaded.append(OnDisk(items, workers=0) if self.disk else InMemory(images, labels))
        return tuple(loaded)


QUICK = [how for how in choices("path") if not named(how).slow]
ALWAYS = {*(f"interpolation_{how}" for how in QUICK), "paths", "reconstructions", "prior_samples", "samples",
          "latent_scatter"}  # fmt: skip


def small(*sizes: int, **others: Any) -> list[str]:
    """The command line of a run on few images."""
    settings = [f"+data.{key}={value}" for key, value in others.items()]
    return [
        *("model=acai", "penalty=wasserstein", f"data._target_={__name__}.Small", f"+data.sizes={list(sizes)}"),
        *(*settings, "data.batch_size=2", "network.depth=2", "trainer.limit_train_batches=2"),
    ]


def numbers(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results.json").read_text())["metrics"]


@pytest.mark.parametrize(
    ("sizes", "missing"),
    [
        ((2, 2, 2), {"cluster_accuracy", "latent_w2"}),
        ((3, 0, 3), {"cluster_accuracy", "latent_w2"}),
        ((8, 3, 13), set()),
        ((8, 2, 18), set()),
    ],
)
@pytest.mark.pictures
def test_few_images_are_trained_on_measured_and_drawn(sizes, missing, launch, caplog):
    folder = launch(*small(*sizes))
    codes = {"reconstruction_mse", "probe_accuracy", "cluster_accuracy", "latent_w2", "latent_mmd"}
    assert codes & set(numbers(folder)) == codes - missing
    assert all(f"Skipped {name}: " in caplog.text for name in missing)
    assert {path.stem for path in (folder / "figures").iterdir()} >= ALWAYS
    assert "could not be drawn" not in caplog.text


@pytest.mark.parametrize("sizes", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 2, 0)])
def test_fewer_images_are_refused_before_training(sizes, launch, tmp_path):
    with pytest.raises(DataError, match=r"Small: the .* split has [01] images?, but must have at least 2( or none)?; "):
        launch(*small(*sizes))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_images_without_labels_have_all_but_what_needs_labels(launch, caplog, tmp_path):
    def call(module: Any, *arguments: str) -> None:
        module.work(read_settings([*arguments, "trust=true"], module.Settings))

    runs = [launch(*small(8, 2, 20, labelled=False, disk=disk), folder=str(disk)) for disk in (False, True)]
    for folder in runs:
        found = set(numbers(folder))
        assert {"reconstruction_mse", "latent_w2", "latent_mmd"} <= found
        assert not {"probe_accuracy", "cluster_accuracy"} & found
        assert {path.stem for path in (folder / "figures").iterdir()} >= ALWAYS
    assert caplog.text.count("Skipped cluster_accuracy and probe_accuracy: the images have no labels") == 2
    assert numbers(runs[0]) == numbers(runs[1])

    call(evaluate, f"run={runs[1]}", f"out={tmp_path / 'again'}", *(key for key in TINY if key.startswith("metrics")))
    assert numbers(tmp_path / "again") == pytest.approx(numbers(runs[1]), rel=1e-6)
    call(interpolate, f"run={runs[1]}", "a=index:1", "b=index:2", f"out={tmp_path}")
    assert list((tmp_path).glob("index1_to_index2_graph-*.png"))
    for end in ("1", "label:1"):
        with pytest.raises(
            ConfigError, match=rf"`a` \(={end}\) is a label, but the images .* have no labels; use a=index:1"
        ):
            call(interpolate, f"run={runs[1]}", f"a={end}", "b=index:2", f"out={tmp_path}")
    call(compare, *map(str, runs), f"out={tmp_path / 'compared'}")
    assert (tmp_path / "compared" / "pair_1.png").is_file()


@pytest.mark.parametrize(
    ("objective", "data", "reason"),
    [
        ("probe_accuracy", Small((8, 2, 8), labelled=False), "the images have no labels"),
        ("cluster_accuracy", Small((2, 2, 8)), "2 training images are too few for 4 clusters"),
        ("latent_w2", Small((8, 2, 3)), "3 test images are too few, it requires 4"),
    ],
)
def test_a_search_by_what_is_skipped_is_refused(objective, data, reason):
    data.batch_size = 2
    with pytest.raises(ConfigError, match=rf"`sweep.objective` \(={objective}\) is not measured .* because {reason}"):
        Evaluation().check(objective, data)


def test_few_training_images_skip_what_compares_with_them(trained, caplog):
    from interp_lightning.runs.load import load_run

    found = Evaluation(restarts=1, pairs=4, steps=3, features="digits")(
        load_run(trained["ae"]).model, Small((40, 2, 100), batch_size=2)
    )
    assert "40 training images are too few for 64 features" in caplog.text
    assert "reconstruction_mse" in found.metrics


# Pictures


def refuse(*_: Any) -> None:
    raise ZeroDivisionError("no picture\nof this")


class Undrawn(InMemory):
    """Images that cannot be read for figures, which alone are drawn in inference mode."""

    checked = Source.checked

    def batch(self, items: Tensor) -> Any:
        return refuse() if torch.is_inference_mode_enabled() else super().batch(items)


class SmallUndrawn(Small):
    def load(self) -> Any:
        train, val, test = super().load()
        return train, val, Undrawn(test.images, test.labels)


@pytest.mark.parametrize(
    ("place", "name", "words", "lost"),
    [
        (Text, "set_text", "Reconstructions", {"reconstructions"}),
        (Text, "set_text", "Codes of", {"latent_scatter"}),
        (Text, "set_text", "Losses", {"loss_curves"}),
        (Figure, "draw", "", {"data", *ALWAYS, "loss_curves"}),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_a_warning(place, name, words, lost, launch, caplog, monkeypatch):
    method = getattr(place, name)

    def refusing(self: Any, first: Any, *others: Any, **keywords: Any) -> Any:
        return refuse() if str(first).startswith(words) else method(self, first, *others, **keywords)

    monkeypatch.setattr(place, name, refusing)
    check_lost(lost, lost, launch, caplog, monkeypatch)


def test_images_that_cannot_be_drawn_are_a_warning(launch, caplog, monkeypatch):
    lost, said = ALWAYS - {"latent_scatter"}, {"paths", "the figures of the test images"}
    check_lost(lost, said, launch, caplog, monkeypatch, f"data._target_={__name__}.SmallUndrawn")


def check_lost(lost: set[str], said: set[str], launch: Any, caplog: Any, monkeypatch: Any, *settings: str) -> None:
    """Train, draw during training and at its end; some pictures are lost, with a warning, and no others."""
    caplog.set_level(logging.WARNING)
    at_batch(monkeypatch, 1, draw)
    folder = launch(*small(8, 0, 8), "logger.default_hp_metric=false", *settings)
    for picture in said:
        why = f"{picture} could not be drawn (ZeroDivisionError: no picture of this); continuing without this picture"
        assert why in caplog.messages
    assert {path.stem for path in (folder / "figures").glob("*.png")} == {"data", *ALWAYS, "loss_curves"} - lost


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_while_drawing_is_one(error):
    with pytest.raises(error), figures.skipping("picture"):
        raise error


def test_unlabelled_codes_are_drawn_in_one_colour():
    z = torch.randn(30, 4)
    without = figures.latent_scatter(z, torch.full((30,), -1), "title")
    assert len(without.axes) == 1  # no colour bar
    assert len(figures.latent_scatter(z, torch.arange(30) % 3, "title").axes) == 2
