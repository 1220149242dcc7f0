"""Data sets in the layouts of other collections are found, whatever their names and compression."""

import gzip

import pytest

from rebar.data import ensure, load
from rebar.errors import RebarError

TITLES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
TASKS = {"mnist": "mnist", "fashion_mnist": "fashion"}
LAYOUTS = {
    "torchvision": "{title}/raw/{name}",
    "torchvision, gzipped": "{title}/raw/{name}.gz",
    "folder named by title": "{title}/{name}",
    "Kaggle in the data set's folder": "{data_set}/{dotted}",
    "Kaggle in the data folder": "{dotted}",
    "Kaggle, gzipped": "{data_set}/{dotted}.gz",
    "published names in the data folder": "{name}.gz",
}


def lay_out(small, root, data_set, layout, change=lambda content: content):
    for (owner, name), content in small.contents.items():
        if owner == data_set:
            dotted = name.replace("-idx", ".idx")
            path = root / LAYOUTS[layout].format(
                title=TITLES[data_set], name=name, dotted=dotted, data_set=data_set
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            content = change(content)
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("data_set", TITLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_found(small, tmp_path, data_set, layout):
    lay_out(small, tmp_path, data_set, layout)
    task = TASKS[data_set]
    found = ensure(task, tmp_path, allow_download=False, log=lambda line: None)
    assert len(found) == {"mnist": 4, "fashion": 2}[task]
    assert len(load(task, tmp_path).test) == 30


def test_the_files_of_another_data_set_are_not_taken(small, tmp_path):
    lay_out(small, tmp_path, "mnist", "published names in the data folder")
    with pytest.raises(RebarError, match=r"is missing.*found under the name .*\.idx3-ubyte.* in "):
        ensure("fashion", tmp_path, allow_download=False)


def test_a_changed_copy_is_not_taken(small, tmp_path):
    lay_out(small, tmp_path, "mnist", "torchvision", lambda c: c[:-1] + bytes([(c[-1] + 1) % 10]))
    with pytest.raises(RebarError, match="is missing"):
        ensure("mnist", tmp_path, allow_download=False)
