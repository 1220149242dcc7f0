"""The real data sets, from the folder that the environment variable REBAR_DATA_SOURCE names."""

import os
from pathlib import Path

import numpy as np
import pytest

from rebar.data import TASKS, ensure, load

from .test_datasets import check_form, check_grey

SOURCE = os.environ.get("REBAR_DATA_SOURCE", "")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not (SOURCE and Path(SOURCE).is_dir()),
        reason="REBAR_DATA_SOURCE names no folder that holds the data sets",
    ),
]

SIZES = {
    "sbn": (50000, 10000, 10000),
    "sp": (50000, 10000, 10000),
    "omni": (23000, 1345, 8070),
    "fashion": (50000, 10000, 10000),
    "digits": (1297, 250, 250),
    "sp_digits": (1297, 250, 250),
    "mnist": (60000, 0, 10000),
    "fashion_grey": (60000, 0, 10000),
    "omni_grey": (23000, 1345, 8070),
    "digits_grey": (1297, 250, 250),
}


@pytest.mark.parametrize(
    ("task", "dynamic"),
    [(name, d) for name, task in TASKS.items() for d in ([False] if task.gray else [False, True])],
)
def test_loads(tmp_path, task, dynamic):
    ensure(task, tmp_path, source=SOURCE, dynamic=dynamic)
    dataset = load(task, tmp_path, dynamic)
    if TASKS[task].gray:
        check_grey(dataset)
    else:
        check_form(dataset, dynamic)
    sizes = tuple(len(a) for a in (dataset.train, dataset.valid, dataset.test))
    assert sizes == SIZES[task]


def test_grey_and_binarized_mnist_have_the_same_mean(tmp_path):
    ensure("sbn", tmp_path, source=SOURCE)
    ensure("sbn", tmp_path, source=SOURCE, dynamic=True)
    grey, binary = load("sbn", tmp_path, dynamic=True), load("sbn", tmp_path)
    # 50000 draws a pixel: six standard errors of a mean of 0.5.
    np.testing.assert_allclose(grey.mean, binary.mean, atol=6 * 0.5 / 50000**0.5)
