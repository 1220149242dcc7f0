"""Catalogue of data sets: their files, mirrors and checksums of the uncompressed content."""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rebar.errors import RebarError, unknown

_PIXELS = 28 * 28


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file of a data set.

    Attributes:
      name: its name without ".gz"; on disk and at mirrors it may carry ".gz" or not.
      layout: "amat" (text of 0/1), "idx" (MNIST's binary format) or "mat" (MATLAB 5).
      shape: of the array inside; for "mat" the shapes of `data` and `testdata`.
      checksum: "algorithm:hexadecimal digest" of the uncompressed content.
      published_gz: whether the publishers serve NAME.gz rather than NAME.
      other_content_allowed: a well-formed file with another checksum may be used, with a notice.
    """

    name: str
    layout: str
    shape: tuple
    checksum: str
    published_gz: bool = True
    other_content_allowed: bool = False

    @property
    def names(self) -> tuple[str, str]:
        """The file names to look for, the published one first."""
        zipped = self.name + ".gz"
        return (zipped, self.name) if self.published_gz else (self.name, zipped)

    @property
    def other_names(self) -> tuple[str, ...]:
        """Names under which other collections have the same content."""
        dotted = self.name.replace("-idx", ".idx")
        return () if dotted == self.name else (dotted, f"{dotted}.gz")


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set: files that belong together in DATA_DIR/NAME.

    Attributes:
      name, title: the folder's name and what `--datasets` accepts; its common name.
      files: file role ("train", "train_images", ...) -> SourceFile; empty: nothing to download.
      mirrors: base URLs, best first.
      n_valid: number of training images set aside for validation; 0 if it has a validation file.
      notice: printed if a well-formed file with another checksum is used.
    """

    name: str
    title: str
    files: dict[str, SourceFile]
    mirrors: tuple[str, ...] = ()
    n_valid: int = 0
    notice: str = ""

    def folders(self, data_dir: Path) -> list[Path]:
        """Where the files may be: DATA_DIR/NAME, then as in torchvision and elsewhere."""
        title = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}.get(self.name)
        other = [data_dir / title / "raw", data_dir / title] if title else []
        return [data_dir / self.name, data_dir / self.name / "raw", *other, data_dir]


class Task(NamedTuple):
    """Value of task=... in an --hparams string: a data set and its use.

    Attributes:
      data_set: one of DATA_SETS; for user-defined data the task itself.
      conditional: predict the lower half of an image from its upper half.
      gray: keep images grayscale instead of binarizing them.
      loader: of user-defined data, see `rebar.register_task`.
      module: module of the plug-in that registered it, or "".
    """

    data_set: str
    conditional: bool
    gray: bool = False
    loader: Callable[..., Any] | None = None
    module: str = ""

    @property
    def is_custom(self) -> bool:
        """True for user-defined data: an NPZ file or a registered task."""
        return self.data_set not in DATA_SETS


TASKS: dict[str, Task] = {
    "sbn": Task("binarized_mnist", False),
    "sp": Task("binarized_mnist", True),
    "omni": Task("omniglot", False),
    "fashion": Task("fashion_mnist", False),
    "digits": Task("digits", False),
    "sp_digits": Task("digits", True),
    "mnist": Task("mnist", False, gray=True),
    "fashion_grey": Task("fashion_mnist", False, gray=True),
    "omni_grey": Task("omniglot", False, gray=True),
    "digits_grey": Task("digits", False, gray=True),
}


_UNWRITABLE = set(",;[](){}\"'")


def is_file(task: str) -> bool:
    """Return whether a task is an NPZ file instead of a name."""
    return task.endswith(".npz")


def file_task(path: str) -> str:
    """Return the task of an NPZ file: its absolute path.

    Raises RebarError for characters that an --hparams string or a log line cannot contain.
    """
    try:
        path = os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError:
        raise RebarError("the current folder does not exist; pass an absolute path") from None
    if set(path) & _UNWRITABLE or not path.isprintable():
        raise RebarError(
            "a path must not contain commas, semicolons, quotes, brackets, parentheses, braces or "
            f"control characters; rename {path!r}, or create a link to it"
        )
    return path


def task_of(name: str) -> Task:
    """Return a task: built-in, registered, or an NPZ file. Raises RebarError if unknown."""
    if is_file(name):
        return Task(name, False)
    if name not in TASKS:
        raise unknown("task", name, [*TASKS, "PATH.npz"])
    return TASKS[name]


def task_slug(task: str) -> str:
    """Return the name of a task in paths; for an NPZ file, its name without folder and suffix."""
    if not is_file(task):
        return task
    return re.sub(r"[^A-Za-z0-9._+-]", "_", Path(task).stem)[:60]


def task_title(task: str, dynamic: bool = False) -> str:
    """Common name of a task's data set, such as "Binarized MNIST"; the name of custom data."""
    entry = task_of(task)
    half = ", lower half given upper half" if entry.conditional else ""
    if entry.is_custom:
        return "Dynamically binarized " * dynamic + os.path.basename(entry.data_set) + half
    kind = "Grayscale" if entry.gray else "Dynamically binarized" if dynamic else "Binarized"
    return f"{kind} {DATA_SETS[entry.data_set].title}{half}"


def _amat(**sha256: str) -> dict[str, SourceFile]:
    """The three files of binarized MNIST; role -> SHA-256."""
    files = {}
    for role, digest in sha256.items():
        shape = (50000 if role == "train" else 10000, _PIXELS)
        name = f"binarized_mnist_{role}.amat"
        files[role] = SourceFile(name, "amat", shape, f"sha256:{digest}", published_gz=False)
    return files


def _idx(**sha256: str) -> dict[str, SourceFile]:
    """The four files of a data set in MNIST's format; role -> SHA-256."""
    files = {}
    for role, digest in sha256.items():
        part, _, kind = role.partition("_")
        prefix, count = {"train": ("train", 60000), "test": ("t10k", 10000)}[part]
        shape = (count, 28, 28) if kind == "images" else (count,)
        name = f"{prefix}-{kind}-idx{len(shape)}-ubyte"
        files[role] = SourceFile(name, "idx", shape, f"sha256:{digest}")
    return files


DATA_SETS: dict[str, DataSet] = {
    "binarized_mnist": DataSet(
        name="binarized_mnist",
        title="MNIST",
        files=_amat(
            train="ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
            valid="1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
            test="e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        ),
        mirrors=("http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",),
    ),
    "mnist": DataSet(
        name="mnist",
        title="MNIST",
        files=_idx(
            train_images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            train_labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            test_images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            test_labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "omniglot": DataSet(
        name="omniglot",
        title="Omniglot",
        files={
            "chardata": SourceFile(
                name="chardata.mat",
                layout="mat",
                shape=((_PIXELS, 24345), (_PIXELS, 8070)),
                checksum="git-blob-sha1:016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
                published_gz=False,
                other_content_allowed=True,
            )
        },
        mirrors=("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",),
        n_valid=1345,
        notice="it is not the file of the IWAE repository: bounds measured on it are not "
        "comparable with published Omniglot bounds",
    ),
    "fashion_mnist": DataSet(
        name="fashion_mnist",
        title="Fashion-MNIST",
        files=_idx(
            train_images="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            train_labels="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            test_images="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            test_labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        n_valid=10000,
    ),
    "digits": DataSet("digits", "digits (8x8)", files={}, n_valid=250),
}


def task_files(task: str, dynamic: bool = False) -> list[tuple[DataSet, str]]:
    """Return the published files that `load` reads for a task, as (data set, role)."""
    entry = task_of(task)
    if entry.is_custom:
        return []
    data_set = DATA_SETS[entry.data_set]
    if data_set.name == "binarized_mnist" and dynamic:
        return [(data_set, "valid"), (data_set, "test"), (DATA_SETS["mnist"], "train_images")]
    return [(data_set, role) for role in data_set.files if not role.endswith("_labels")]


def needed(name: str, dynamic: bool = False) -> list[tuple[DataSet, str]]:
    """Return all files of a data set, or those of a task; RebarError if `name` is neither."""
    if name in DATA_SETS:
        return [(DATA_SETS[name], role) for role in DATA_SETS[name].files]
    if name in TASKS or is_file(name):
        return task_files(name, dynamic)
    raise unknown("data set", name, [*DATA_SETS, *TASKS])
