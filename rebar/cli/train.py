"""Train a sigmoid belief network or a categorical VAE, and print the lines of the 2017 script.

Examples:
  python rebar_train.py --hparams="model=SBNDynamicRebar,task=digits,n_layer=2" --epochs=20
  python rebar_train.py --hparams="model=SBNDynamicRebar,learning_rate=0.0003,n_layer=2,task=sbn"
  python rebar_train.py --hparams="model=SBNTrackGradVariances,n_layer=2,task=omni"
  python rebar_train.py --preset=disarm_nonlinear --hparams="model=SBNDisARM"
  python rebar_train.py --preset=cat_8x4_reinmax --epochs=160

Each run is stored in WORKING_DIR/<name>; rerun the same command to resume it.
"""

import dataclasses
import sys

from absl import flags

from rebar.cli import frame
from rebar.data import ensure, load
from rebar.data.sources import task_of
from rebar.hparams import HParams, Settings, checks, grammar, run_folder
from rebar.hparams.fields import Fields
from rebar.hparams.presets import PRESETS
from rebar.plugins import discover, import_plugins
from rebar.runs import environment
from rebar.runs.lock import check_run
from rebar.runs.quiet import quiet_start

_KINDS = {int: "integer", float: "float", bool: "boolean", tuple: "list"}
"""Type of a setting -> kind of its flag; others are strings."""


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

    text = "name=value pairs, see below; later strings override earlier ones."
    define("multi_string", "hparams", "", text)
    for field in dataclasses.fields(Settings):
        kind, options = _KINDS.get(type(field.default), "string"), {}
        if choices := field.metadata["choices"]():
            kind, options = "enum", {"enum_values": choices, "case_sensitive": False}
        if field.name == "preset":
            options = {"allow_overwrite": False}
        define(kind, field.name, field.default, field.metadata["help"], **options)
    define("boolean", "download", True, "Download missing data sets.")
    values["download"].parser = _YesNo()
    text = "Folder or base URL of missing data sets, instead of the mirrors."
    define("string", "source", None, text)
    define("list", "plugins", "", frame.PLUGINS)
    return values


def _help(values) -> str:
    """Return tables of hyperparameters and presets, including plugins."""
    import_plugins(values.plugins)
    discover()
    rows = []
    for field in dataclasses.fields(Fields):
        name, default, kind = field.name, field.default, grammar.type_name(field.default)
        rows.append(f"  {name}={grammar.write(default)}  ({kind}) {field.metadata['help']}")
        if choices := field.metadata["choices"]():
            rows[-1] += f" One of: {', '.join(choices)}."
    for name, default in checks.custom_defaults().items():
        kind = grammar.type_name(default)
        rows.append(f"  {name}={grammar.write(default)}  ({kind}) Declared by a plugin.")
    presets = [f"  {name}  {string}" for name, string in PRESETS.items()]
    return "\n".join(["", "hparams, with their defaults:", *rows, "", "presets:", *presets])


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status, see frame.run."""
    return frame.run(define_flags, _run, argv or sys.argv, __doc__, _help)


def _run(values, arguments) -> int:
    """Train; return 128 + signal number if a signal ended the run early."""
    import_plugins(values.plugins)
    frame.no_arguments(arguments)
    settings = settings_of(values)
    hparams = HParams.parse(*values.hparams, preset=settings.preset)
    environment.check()
    ensure(
        hparams.task,
        settings.data_dir,
        source=values.source,
        allow_download=values.download,
        log=print_unusual,
        dynamic=hparams.dynamic_b,
    )
    check_run(run_folder(settings.working_dir, hparams, settings.seed))
    received = _train(settings, hparams)
    return 0 if received is None else frame.SIGNAL + received


def settings_of(values) -> Settings:
    """Return the settings given by flags."""
    named = {field.name: values[field.name].value for field in dataclasses.fields(Settings)}
    words = named.pop("keep_epochs")
    epochs = (int(word) if word.isdecimal() else word for word in words)
    return Settings(**named, keep_epochs=tuple(epochs))


def _train(settings: Settings, hparams: HParams) -> int | None:
    data = None
    if task_of(hparams.task).is_custom:  # refuse invalid data before TensorFlow is imported
        data = load(hparams.task, settings.data_dir, hparams.dynamic_b)
    with quiet_start():
        from rebar.experiment import run_experiment
    return run_experiment(hparams, settings, data).signal


def print_unusual(line: str) -> None:
    """Print messages about data, except that published files are present."""
    if ": present; " not in line or "NOTE" in line:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
