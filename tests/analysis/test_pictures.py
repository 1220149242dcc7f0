"""Pictures of a model: what each grid holds, and the files they are written to."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rebar import noise
from rebar.analysis import pictures
from rebar.errors import RebarError
from rebar.experiment import Trained
from rebar.factory import make_model
from rebar.hparams import HParams

SHAPE = (4, 3)
MEAN = np.linspace(0.1, 0.9, 12)


def model(conditional=None, n_layer=2):
    settings = HParams(n_layer=n_layer, n_hidden=3, conditional=conditional or "auto")
    return make_model(settings, MEAN, conditional is not None)


def images(count):
    return np.random.default_rng(0).integers(0, 2, size=(count, 12)).astype(np.uint8)


def test_samples_are_those_of_the_model():
    sbn = model()
    panel = pictures.samples(sbn, SHAPE, seed=5, rows=2, columns=3)
    latents = noise.latents(noise.key(5, "analysis", 0), 1, 6, (3, 3))
    np.testing.assert_array_equal(panel.images.reshape(6, 12), sbn.sample(latents))
    assert panel.images.shape == (2, 3, *SHAPE)
    other = pictures.samples(sbn, SHAPE, seed=6, rows=2, columns=3)
    assert not np.array_equal(panel.images, other.images)


def test_each_image_is_over_its_reconstruction():
    sbn, x = model(), images(5)
    panel = pictures.reconstructions(sbn, x, SHAPE, columns=3)
    expected = sbn.reconstruct(x, noise.latents(noise.key(0, "analysis", 1), 1, 5, (3, 3)))
    assert panel.images.shape == (4, 3, *SHAPE)
    for i in range(5):
        row, column = divmod(i, 3)
        np.testing.assert_array_equal(panel.images[2 * row, column].ravel(), x[i])
        below = panel.images[2 * row + 1, column].ravel()
        np.testing.assert_array_equal(below.astype(np.float32), expected[i])
    assert np.all(np.isnan(panel.images[2:, 2]))


@pytest.mark.parametrize("conditional", ["multilayer", "2017"])
def test_completions_keep_the_given_half_and_sample_the_other(conditional):
    sbn, x = model(conditional), images(4)
    panel = pictures.completions(sbn, x, SHAPE, n_samples=3, n_drawn=2)
    grid = panel.images.reshape(4, 5, 12)
    assert panel.columns == ("image", "given", "mean", "1", "2")
    np.testing.assert_array_equal(grid[:, 0], x)
    for column in range(1, 5):
        np.testing.assert_array_equal(grid[:, column, :6], x[:, :6])
    assert np.all(np.isnan(grid[:, 1, 6:]))
    latents = noise.latents(noise.key(0, "analysis", 0), 3, 4, (3, 3))
    lower = np.asarray(sbn.sample(latents, x=x))
    for sample in range(2):
        rows = lower[4 * sample : 4 * sample + 4]
        np.testing.assert_array_equal(grid[:, 3 + sample, 6:].astype(np.float32), rows)
    np.testing.assert_allclose(grid[:, 2, 6:], lower.reshape(3, 4, 6).mean(axis=0), rtol=1e-6)


def test_a_categorical_model_is_drawn_from_grey_images():
    settings = HParams(model="CatReinMax", task="mnist", n_categories=3, n_latents=2)
    vae = make_model(settings, MEAN, False)
    x = np.random.default_rng(0).uniform(size=(5, 12)).astype(np.float32)
    drawn, pairs = pictures.panels(vae, x, SHAPE)
    latents = noise.latents(noise.key(0, "analysis", 0), 1, 72, (6,))
    np.testing.assert_array_equal(drawn.images.reshape(72, 12), vae.sample(latents))
    np.testing.assert_array_equal(pairs.images[0, 4].ravel().astype(np.float32), x[4])


@pytest.mark.parametrize(
    ("changes", "latents"),
    [
        ({"n_layer": 2, "n_hidden": 30}, "2 stochastic layers of 30 units, linear"),
        ({"model": "CatReinMax", "task": "mnist"}, "4 variables of 8 categories"),
    ],
)
def test_the_caption_says_what_is_drawn(changes, latents):
    hparams = HParams(**changes)
    trained = Trained(make_model(hparams, MEAN, False), hparams, 7, None, Path())
    expected = f"{hparams.model}, task={hparams.task}, {latents}, after step 7"
    assert pictures.caption(trained) == expected


def test_the_panels_suit_the_model_and_show_the_whole_test_set():
    x = np.zeros((100, 12), np.uint8)
    x[-1] = 1
    generative = pictures.panels(model(), x, SHAPE)
    assert [p.images.shape[:2] for p in generative] == [(6, 12), (6, 12)]
    assert np.all(generative[1].images[4, 11] == 1)
    (conditional,) = pictures.panels(model("multilayer"), x, SHAPE)
    assert conditional.images.shape[:2] == (12, 12)
    assert len(conditional.columns) == 12
    assert [len(p.rows) for p in generative] == [0, 6]
    assert [p.name for p in (*generative, conditional)] == [
        "samples",
        "reconstructions",
        "completions",
    ]
    assert np.all(conditional.images[-1, 0] == 1)
    (few,) = pictures.panels(model("2017"), x[:2], SHAPE)
    assert few.images.shape[:2] == (2, 12)


def test_no_images_are_refused():
    with pytest.raises(RebarError, match="no test images to draw; add some to the data set"):
        pictures.panels(model(), np.zeros((0, 12)), SHAPE)


@pytest.mark.parametrize("shape", [(3, 11), (12,)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(RebarError, match=r"images of shape .*expected \[n, 12\]"):
        pictures.panels(model(), np.zeros(shape), SHAPE)


def test_the_mosaic_frames_every_image():
    grid = np.arange(2 * 3 * 4 * 3, dtype=float).reshape(2, 3, *SHAPE)
    mosaic = pictures.mosaic(grid)
    assert mosaic.shape == (2 * 5 + 1, 3 * 4 + 1)
    for row in range(2):
        for column in range(3):
            cell = mosaic[5 * row + 1 : 5 * row + 5, 4 * column + 1 : 4 * column + 4]
            np.testing.assert_array_equal(cell, grid[row, column])
    assert np.isnan(mosaic).sum() == mosaic.size - grid.size


def test_a_figure_draws_ink_black_and_needs_no_display(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    panel = pictures.Panel("name", "a title", np.array([[[[1.0, 0.0]]]]), ("row",), ("column",))
    figure = pictures.figure([panel, panel._replace(rows=(), columns=())], "both")
    assert len(figure.axes) == 2
    labels = [(*axis.get_xticklabels(), *axis.get_yticklabels()) for axis in figure.axes]
    assert [[label.get_text() for label in of] for of in labels] == [["column", "row"], []]
    (drawn,) = figure.axes[0].images
    colours = drawn.cmap(drawn.norm(drawn.get_array()))[1, 1:3, :3]
    np.testing.assert_allclose(colours, [[0, 0, 0], [1, 1, 1]], atol=0.01)
    for name, start in (("a.png", b"\x89PNG"), ("b.PDF", b"%PDF")):
        pictures.save(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.PDF"]


def test_files_that_cannot_be_written(tmp_path):
    figure = pictures.figure([pictures.Panel("", "", np.zeros((1, 1, 2, 2)))])
    with pytest.raises(RebarError, match=r"\.png or \.pdf, e\.g\. samples\.png"):
        pictures.save(figure, tmp_path / "picture.jpg")
    (tmp_path / "a_file").touch()
    with pytest.raises(RebarError, match=r"cannot write .*a_file.picture\.png"):
        pictures.save(figure, tmp_path / "a_file" / "picture.png")


def test_a_training_run_draws_what_the_draw_command_draws(tmp_path):
    trained = Trained(model(), HParams(n_layer=2, n_hidden=3), 0, None, tmp_path)
    data = SimpleNamespace(test=images(5), image_shape=SHAPE)
    written = tmp_path / "pictures" / "step-0000007.png"
    parts = pictures.draw_step(trained, data, 7)
    first = written.read_bytes()
    pictures.draw(trained._replace(step=7), data, tmp_path / "a.png")
    assert first == (tmp_path / "a.png").read_bytes()
    assert list(parts) == ["pictures/samples", "pictures/reconstructions"]
    values = pictures.mosaic(pictures.samples(trained.model, SHAPE).images)
    ink = parts["pictures/samples"]
    assert (ink.dtype, ink.shape) == (np.uint8, (*values.shape, 3))
    empty = np.isnan(values)
    assert np.all(ink[empty] == [0xC8, 0xD4, 0xE4])
    gray = np.round(255 * (1 - values[~empty]))
    np.testing.assert_allclose(ink[~empty], np.stack([gray] * 3, axis=1), atol=2)
    trained.model.trainable_variables[0].assign_add(
        np.ones(trained.model.trainable_variables[0].shape)
    )
    assert not np.array_equal(pictures.draw_step(trained, data, 7)["pictures/samples"], ink)
    assert written.read_bytes() != first
