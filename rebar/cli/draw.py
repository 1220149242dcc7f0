"""Draw samples of a trained model, and test images with their reconstructions.

Examples:
  rebar-draw /tmp/rebar/SBNDynamicRebar-sbn-2x200-lr0.0003-s0-e26786e978
  rebar-draw RUN_FOLDER --output=samples.pdf --seed=1

RUN_FOLDER is the folder of a run, printed by the train command after "run:"; its newest checkpoint
is drawn. Models of the lower half of an image (tasks sp, sp_digits) complete test images: each row
shows the image, its upper half, the mean of 100 samples of the lower half, and nine of these.
"""

import sys
from pathlib import Path

from absl import flags

from rebar.cli import frame
from rebar.errors import RebarError
from rebar.plugins import import_plugins
from rebar.runs.quiet import quiet_start


def define_flags() -> flags.FlagValues:
    """Return the flags of the command."""
    values = frame.flag_values()
    define = frame.definer(values)
    text = "File of the picture, .png or .pdf; by default picture.png in RUN_FOLDER."
    define("string", "output", None, text)
    define("string", "data_dir", "data", "Folder of the data sets.")
    define("integer", "seed", 0, "Seed of the samples.", lower_bound=0)
    define("list", "plugins", "", frame.PLUGINS)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status, see frame.run."""
    return frame.run(define_flags, _draw, argv or sys.argv, __doc__)


def _draw(values, folders) -> None:
    """Draw, write and print the path of the picture."""
    if len(folders) != 1:
        raise RebarError(
            f"{' '.join(folders) or 'no folder'}: must be the folder of one run; use e.g. "
            "rebar-draw /tmp/rebar/NAME_OF_THE_RUN"
        )
    folder = Path(folders[0])
    with quiet_start():
        from rebar.analysis import pictures
        from rebar.experiment import data_of, load_model
    path = Path(values.output or folder / "picture.png")
    pictures.suffix(path)
    import_plugins(values.plugins)
    trained = load_model(folder)
    pictures.draw(trained, data_of(trained, values.data_dir), path, values.seed)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
