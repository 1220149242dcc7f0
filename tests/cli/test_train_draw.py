"""--draw: the pictures of the draw command at evaluations; matplotlib only if asked for."""

import subprocess
import sys

from rebar.cli import draw, train

FLAGS = ("--hparams=model=SBNNVIL,task=digits,n_hidden=4", "--epochs=1", "--eval_freq=1")


def test_the_picture_of_a_step_is_that_of_the_draw_command(tmp_path, capsys):
    assert train.main(["train", *FLAGS, "--draw", f"--working_dir={tmp_path}"]) == 0
    (folder,) = tmp_path.iterdir()
    (picture,) = (folder / "pictures").iterdir()
    assert picture.name == "step-0000055.png"
    assert draw.main(["draw", str(folder), f"--output={tmp_path / 'again.png'}"]) == 0
    assert picture.read_bytes() == (tmp_path / "again.png").read_bytes()


def test_a_run_that_draws_nothing_needs_no_matplotlib(tmp_path):
    """Keras imports it for itself where it finds it; the train command must not."""
    code = (
        "import sys; sys.modules['matplotlib'] = None; from rebar.cli import train; "
        f"assert train.main(['train', *{FLAGS!r}, '--working_dir={tmp_path}']) == 0; "
        "assert 'rebar.analysis.pictures' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
