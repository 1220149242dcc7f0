"""The tables and figures of docs/results.md: measuring, collecting runs, and drawing.

python -m benchmarks.results                           # the page, from the records in results/
python -m benchmarks.results measure linear            # measure the estimators without a record
python -m benchmarks.results collect RUN_FOLDER ...    # record long runs
"""
