"""The draw command: the picture of a run, exit status and messages."""

import pytest

from rebar.cli import draw
from rebar.hparams import HParams
from tests.digits_run import train


def run(*arguments):
    return draw.main(["draw", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a run of one step."""
    return train(tmp_path_factory.mktemp("runs"), "digits", steps=1)[2]


def test_draws_into_the_folder_of_the_run(folder, capsys):
    assert run(folder) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(folder / "picture.png")
    assert err == ""
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_output_and_seed(folder, tmp_path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert run(folder, f"--output={tmp_path / name}", f"--seed={seed}") == 0
    a, b, c = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert a == b != c


def test_a_conditional_model_as_pdf(tmp_path):
    folder = train(tmp_path, "sp_digits", steps=1, n_layer=1)[2]
    assert run(folder, f"--output={tmp_path / 'new' / 'picture.pdf'}") == 0
    assert (tmp_path / "new" / "picture.pdf").read_bytes().startswith(b"%PDF")


def test_a_categorical_model(tmp_path):
    plain = {"n_layer": HParams().n_layer, "n_hidden": HParams().n_hidden}  # of binary layers
    changes = {"model": "CatReinMax", "n_categories": 4, "n_latents": 3, **plain}
    folder = train(tmp_path, "digits_grey", steps=1, **changes)[2]
    assert run(folder) == 0
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_with_gaussian_pixels(tmp_path):
    folder = train(tmp_path, "digits_grey", steps=1, likelihood="gaussian", prior="uniform")[2]
    assert run(folder) == 0
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no folder: "),
        (["a", "b"], "a b: "),
        (["nowhere"], "no checkpoint in 'nowhere'"),
        (["nowhere", "--output=picture.jpg"], "cannot write a picture to 'picture.jpg'"),
        (["nowhere", "--seed=-1"], "seed"),
        (["nowhere", "--plugins=not_there"], "--plugins=not_there: "),
        (["nowhere", "--size=3"], "Unknown command line flag 'size'"),
    ],
)
def test_mistakes(capsys, arguments, message):
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
