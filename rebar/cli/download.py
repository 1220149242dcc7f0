"""Fetch the data sets into the data folder, and verify those that are present.

Examples:
  python download_data.py
  python download_data.py --datasets=binarized_mnist,mnist --data_dir=data
  python download_data.py --source=/media/stick
"""

import sys

from absl import flags

from rebar.cli import frame
from rebar.data.download import ensure
from rebar.data.sources import DATA_SETS, TASKS
from rebar.errors import RebarError

_URL_FLAGS = {data_set.url_flag: name for name, data_set in DATA_SETS.items() if data_set.url_flag}


def _define_flags() -> flags.FlagValues:
    """The command's own flags: absl's global ones belong to whichever program is running."""
    values = frame.flag_values()
    known = ", ".join(DATA_SETS)
    flags.DEFINE_string("data_dir", "data", "Folder for the data sets.", flag_values=values)
    flags.DEFINE_list("datasets", "all", f"'all', or several of: {known}.", flag_values=values)
    flags.DEFINE_string(
        "source",
        None,
        "Take the files only from here: a folder or a base URL (file, http, https) that holds "
        "DATA SET/FILE or FILE, gzipped or not. Default: REBAR_DATA_SOURCE, if set.",
        flag_values=values,
    )
    for name, data_set in _URL_FLAGS.items():
        text = f"Base URL, or folder, for {data_set}, instead of the built-in ones and --source."
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_float(
        "timeout",
        10.0,
        "Seconds to wait for a connection, and for the next bytes.",
        lower_bound=0.1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "retries",
        1,
        "Further attempts at a URL after a transfer that broke off.",
        lower_bound=0,
        upper_bound=100,
        flag_values=values,
    )
    return values


def _chosen(names: list[str]) -> list[str]:
    """Data sets that --datasets names, each once. Raises RebarError for unknown ones."""
    names = [name.strip() for name in names if name.strip()]
    unknown = [name for name in names if name != "all" and name not in DATA_SETS]
    if unknown or not names:
        text = (
            f"--datasets names unknown data sets {', '.join(unknown)}"
            if unknown
            else ("--datasets names no data set")
        )
        hints = [f"{n} is a task, type {TASKS[n].data_set}" for n in unknown if n in TASKS]
        hint = f" ({'; '.join(hints)})" if hints else ""
        raise RebarError(f"{text}{hint}; known: all, {', '.join(DATA_SETS)}")
    return list(DATA_SETS) if "all" in names else list(dict.fromkeys(names))


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status, see frame.run."""
    return frame.run(_define_flags, _download, argv or sys.argv, __doc__)


def _download(values, arguments) -> int:
    """Fetch the data sets one by one; one that fails does not stop the others."""
    frame.no_arguments(arguments)
    urls = {name: values[flag].value for flag, name in _URL_FLAGS.items() if values[flag].value}
    status = 0
    for name in _chosen(values.datasets):
        try:
            ensure(
                name,
                values.data_dir,
                source=values.source,
                urls=urls,
                timeout=values.timeout,
                retries=values.retries,
            )
        except RebarError as error:
            status = frame.fail(str(error))
    return status
