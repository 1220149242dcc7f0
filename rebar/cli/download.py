"""Download the data sets, and verify those that are present.

Examples:
  python download_data.py
  python download_data.py --datasets=binarized_mnist,mnist --data_dir=data
  python download_data.py --source=/media/stick
"""

import sys

from absl import flags

from rebar.cli import frame
from rebar.data.download import ensure
from rebar.data.sources import DATA_SETS, needed
from rebar.errors import RebarError

_URL_FLAGS = {
    "mnist_binarized_url": "binarized_mnist",
    "mnist_url": "mnist",
    "omniglot_url": "omniglot",
    "fashion_url": "fashion_mnist",
}


def define_flags() -> flags.FlagValues:
    """Return the flags of the command."""
    values = frame.flag_values()
    define = frame.definer(values)
    define("string", "data_dir", "data", "Folder for the data sets.")
    define(
        "list", "datasets", "all", f"'all', or data sets or tasks, some of: {', '.join(DATA_SETS)}."
    )
    text = (
        "Folder or base URL (file, http, https) of all files, as DATA SET/FILE or FILE, gzipped or "
        "not; by default REBAR_DATA_SOURCE, if set, else the mirrors."
    )
    define("string", "source", None, text)
    for name, data_set in _URL_FLAGS.items():
        define("string", name, None, f"Base URL or folder of {data_set}; overrides --source.")
    text = "Maximum seconds to wait for a connection, and for the next bytes."
    define("float", "timeout", 10.0, text, lower_bound=0.1)
    text = "Further attempts at a URL after an interrupted transfer."
    define("integer", "retries", 1, text, lower_bound=0, upper_bound=100)
    return values


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status, see frame.run."""
    return frame.run(define_flags, _download, argv or sys.argv, __doc__)


def _download(values, arguments) -> int:
    """Download the data sets one by one; failures do not stop the others."""
    frame.no_arguments(arguments)
    urls = {name: values[flag].value for flag, name in _URL_FLAGS.items() if values[flag].value}
    names = [name.strip() for name in values.datasets] or [""]
    names = list(DATA_SETS) if "all" in names else names
    for name in names:
        needed(name)  # raises for an unknown one before the first download
    status = 0
    for name in names:
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
