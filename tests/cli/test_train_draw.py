"""--draw: the pictures of the draw command at evaluations."""

from rebar.cli import draw, train

FLAGS = ("--hparams=model=SBNNVIL,task=digits,n_hidden=4", "--epochs=1", "--eval_freq=1")


def test_the_picture_of_a_step_is_that_of_the_draw_command(tmp_path, capsys):
    assert train.main(["train", *FLAGS, "--draw", f"--working_dir={tmp_path}"]) == 0
    (folder,) = tmp_path.iterdir()
    (picture,) = (folder / "pictures").iterdir()
    assert picture.name == "step-0000055.png"
    assert draw.main(["draw", str(folder), f"--output={tmp_path / 'again.png'}"]) == 0
    assert picture.read_bytes() == (tmp_path / "again.png").read_bytes()
