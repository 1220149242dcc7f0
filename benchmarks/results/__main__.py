"""The command line, see `benchmarks.results`."""

import argparse

from benchmarks import common
from benchmarks.results import frozen, page, published
from rebar.runs.quiet import quiet_start


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    measure = commands.add_parser("measure", help="measure estimators at frozen models")
    measure.add_argument("models", nargs="+", choices=frozen.MODELS)
    measure.add_argument("--estimators", default="", help="labels; default: those without a record")
    measure.add_argument("--working_dir", default="runs", help="folder of the models' runs")
    measure.add_argument("--data_dir", default="data")
    collect = commands.add_parser("collect", help="record long runs of published protocols")
    collect.add_argument("folders", nargs="+", metavar="RUN_FOLDER")
    values = parser.parse_args()
    if values.command == "measure":
        with quiet_start():
            import tensorflow as tf
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for model in values.models:
            frozen.measure(model, values.estimators, values.working_dir, values.data_dir)
    elif values.command == "collect":
        for folder in values.folders:
            published.collect(folder)
    else:
        for path in page.write():
            print(f"written: {path}")


if __name__ == "__main__":
    common.run(main)
