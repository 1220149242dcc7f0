"""Train, evaluate and compare gradient estimators: python rebar_train.py --help."""

import sys

from rebar.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
