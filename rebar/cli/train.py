"""Train a sigmoid belief network or a categorical VAE, and print the lines of the 2017 script.

Examples:
  python rebar_train.py --hparams="model=SBNDynamicRebar,task=digits,n_layer=2" --epochs=20
  python rebar_train.py --hparams="model=SBNDynamicRebar,learning_rate=0.0003,n_layer=2,task=sbn"
  python rebar_train.py --hparams="model=SBNTrackGradVariances,n_layer=2,task=omni"
  python rebar_train.py --preset=disarm_nonlinear --hparams="model=SBNDisARM"
  python rebar_train.py --preset=cat_8x4_reinmax --epochs=160

Each run is stored in WORKING_DIR/<name>; rerun the same command to resume it.
"""

import sys

from absl import flags

from rebar.cli import frame
from rebar.cli.plugins import import_plugins
from rebar.cli.quiet import quiet_start
from rebar.data import ensure
from rebar.errors import RebarError
from rebar.hparams import HParams, describe, run_folder
from rebar.hparams.presets import PRESETS, parse_hparams
from rebar.runs import environment
from rebar.runs.lock import check_run

_MAX_DRAWS = 1_000_000
_SETTINGS = (
    *("training_steps", "epochs", "eval_freq", "eval_samples", "variance_freq", "variance_draws"),
    *("save_seconds", "seed", "working_dir", "data_dir", "preset", "jit", "threads", "cores"),
    *("draw", "log_format"),
)
"""Flags that are attributes of `experiment.Settings`."""


class _YesNo(flags.BooleanParser):
    """Parser of boolean flags that accepts yes and no, too."""

    def parse(self, argument):
        words = {"yes": True, "no": False}
        word = argument.lower() if isinstance(argument, str) else argument
        return super().parse(words.get(word, argument))


def define_flags() -> flags.FlagValues:
    """Return the flags of the command."""
    values = frame.flag_values()
    define = frame.definer(values)

    def integer(name, default, text, lower=0, upper=None):
        define("integer", name, default, text, lower_bound=lower, upper_bound=upper)

    text = "name=value pairs, see below; later strings override earlier ones."
    define("multi_string", "hparams", "", text)
    text = "hparams of a published protocol, see below; --hparams override them."
    define("string", "preset", None, text, allow_overwrite=False)
    define("string", "working_dir", "/tmp/rebar", "Parent of the folders of runs.")
    define("string", "data_dir", "data", "Folder of the data sets.")
    integer("eval_freq", 20, "Epochs between evaluations; 0 disables them.")
    integer("eval_samples", 100, "Samples of the evaluated bound.", 1, _MAX_DRAWS)
    define("boolean", "draw", False, "Draw samples and test images at each evaluation.")
    integer(
        "variance_freq",
        0,
        "Epochs between measurements of the conditional variance, at fixed parameters and images; "
        "0 disables them.",
    )
    integer("variance_draws", 100, "Noise draws per variance measurement.", 4, _MAX_DRAWS)
    integer("seed", 0, "Seed of all randomness.", 0, 2**32 - 1)
    integer("training_steps", 2_000_000, "Total number of steps.", 1)
    integer("epochs", 0, "Total number of epochs; 0 sets no limit.")
    integer("threads", 0, "Intra-op threads; 0 chooses from the step size.", 0, 1024)
    integer("cores", 0, "Maximum number of cores; 0 uses all.")
    define("boolean", "download", True, "Download missing data sets.")
    values["download"].parser = _YesNo()
    text = "Folder or base URL of missing data sets, instead of the mirrors."
    define("string", "source", None, text)
    define("float", "save_seconds", 300.0, "Seconds between checkpoints.", lower_bound=0.0)
    define("list", "keep_epochs", "", "Epochs whose checkpoints are kept, e.g. 1,5,25.")
    define("list", "plugins", "", frame.PLUGINS)
    text = (
        "Printed lines: those of 2017, a table, or only a summary; auto is 2017, on a terminal at "
        "most one epoch per second."
    )
    define("enum", "log_format", "auto", text, enum_values=["auto", "2017", "table", "quiet"])
    text = "Compile steps with XLA; auto chooses by estimator."
    modes = ["auto", "on", "off"]
    define("enum", "jit", "auto", text, enum_values=modes, case_sensitive=False)
    return values


def _help(values) -> str:
    """Return tables of hyperparameters and presets, including plugins."""
    import_plugins(values.plugins)
    rows = [
        f"  {d.name}={d.default}  ({d.type}) {d.help}"
        + (f" One of: {', '.join(d.choices)}." if d.choices else "")
        for d in describe()
    ]
    presets = [f"  {name}  {string}" for name, string in PRESETS.items()]
    return "\n".join(["", "hparams, with their defaults:", *rows, "", "presets:", *presets])


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status, see frame.run."""
    return frame.run(define_flags, _run, argv or sys.argv, __doc__, _help)


def _run(values, arguments) -> int:
    """Train; return 128 + signal number if a signal ended the run early."""
    import_plugins(values.plugins)
    frame.no_arguments(arguments)
    hparams = parse_hparams(values.preset, *values.hparams)
    _prepare(values, hparams)
    received = _train(values, hparams)
    return 0 if received is None else frame.SIGNAL + received


def _prepare(values, hparams: HParams) -> None:
    """Validate settings before TensorFlow is imported; download the data."""
    if values.draw and not values.eval_freq:
        raise RebarError(
            "--draw: needs evaluations, but --eval_freq=0; set --eval_freq=20, or draw the trained "
            "model with rebar-draw"
        )
    _epochs(values.keep_epochs)
    environment.check()
    check_run(run_folder(values.working_dir, hparams, values.seed))
    ensure(
        hparams.task,
        values.data_dir,
        source=values.source,
        allow_download=values.download,
        log=print_unusual,
        dynamic=hparams.dynamic_b,
    )


def _train(values, hparams: HParams) -> int | None:
    with quiet_start():
        from rebar.experiment import Settings, run_experiment
    named = {field: values[field].value for field in _SETTINGS}
    settings = Settings(**named, keep_epochs=_epochs(values.keep_epochs))
    return run_experiment(hparams, settings).signal


def _epochs(words) -> tuple:
    """Convert --keep_epochs to numbers."""
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and int(word))]
    if wrong:
        raise RebarError(
            f"--keep_epochs={','.join(words)}: invalid {', '.join(map(repr, wrong))}; use integers "
            "from 1, e.g. --keep_epochs=1,5,25"
        )
    return tuple(map(int, words))


def print_unusual(line: str) -> None:
    """Print messages about data, except that published files are present."""
    if ": present; " not in line or "NOTE" in line:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
