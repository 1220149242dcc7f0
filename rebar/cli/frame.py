"""Common frame of all commands: flags, help, standard streams, errors and exit status."""

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from rebar.errors import RebarError

ERROR = 2
SIGNAL = 128
"""Exit status of a command that ended by signal n: SIGNAL + n."""

PLUGINS = "Python modules that register estimators, models and data, imported first."
"""Help of --plugins."""


def flag_values() -> flags.FlagValues:
    """Return flags with `--help` alone, without absl's global flags."""
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def definer(values: flags.FlagValues) -> Callable[..., Any]:
    """Return a function that defines a flag: kind, name, default, help, and limits of the kind."""

    def define(kind, name, default, text, **limits):
        make = getattr(flags, f"DEFINE_{kind}")
        return make(name=name, default=default, help=text, flag_values=values, **limits)

    return define


def run(
    define_flags: Callable[[], flags.FlagValues],
    body: Callable[[flags.FlagValues, list[str]], int | None],
    argv: list[str],
    description: str | None,
    tables: Callable[[flags.FlagValues], str] = lambda values: "",
    hint: Callable[[str], str] = lambda name: "",
) -> int:
    """Run a command.

    Args:
      define_flags: function that returns the command's flags.
      body: function of the parsed flags and the other arguments that returns the exit status.
      argv: command line.
      description: text of `--help` above the flags.
      tables: function of the flags that returns the text of `--help` below them.
      hint: function of the name of an unknown flag that returns a suffix of the error.

    Returns:
      Status of the body (None: 0); 2 after an error, which is printed on stderr; 130 after Ctrl-C;
      141 if the output is closed, as after `| head`.
    """
    # Suppress warnings about a read-only configuration folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        _open_streams()
        values = define_flags()
        arguments = values(argv)[1:]
        if values.help:
            print(f"{description}\n{values.get_help()}{tables(values)}")
            status = 0
        else:
            status = body(values, arguments) or 0
        sys.stdout.flush()
        return status
    except flags.UnrecognizedFlagError as error:
        return fail(f"{error}{hint(error.flagname)}")
    except (flags.Error, RebarError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        _print_error("\ninterrupted")
        return SIGNAL + signal.SIGINT
    except BrokenPipeError:
        return SIGNAL + signal.SIGPIPE
    except OSError as error:
        if error.filename is not None:
            return fail(f"{error.filename}: {error.strerror}")
        return fail(f"standard output: {error.strerror or error}; free disk space, or redirect it")
    finally:
        if _output_fails():
            # Otherwise Python's flush at exit fails.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def no_arguments(arguments: list[str], allowed: str = "flags only") -> None:
    """Raise RebarError for arguments that are not flags."""
    if arguments:
        raise RebarError(f"{' '.join(arguments)!r}: unexpected; pass {allowed}, see --help")


def _open_streams() -> None:
    """Replace closed standard streams, so that no file gets their descriptors.

    Undecodable file names are printed as bytes if the encoding is UTF-8, else with escapes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        raise RebarError("standard output: closed; redirect it to a file or /dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _output_fails() -> bool:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return True
    return False


def fail(message: str) -> int:
    """Print an error on stderr; return its exit status."""
    _print_error(f"error: {message}")
    return ERROR


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
