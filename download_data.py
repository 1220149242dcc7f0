"""Fetch the data sets; `python download_data.py --help` lists the flags."""

import sys

from rebar.cli.download import main

if __name__ == "__main__":
    sys.exit(main())
