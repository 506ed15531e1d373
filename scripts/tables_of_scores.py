"""The tables of recorded scores again: after a change of the statistics, without the runs.

    python scripts/tables_of_scores.py FOLDER [...] [--paper]

Each folder holds a `scores.parquet`, as a report does. Prints its tables and writes them next to
it: `table.{csv,md,tex}` and `differences.csv`. What the runs lacked cannot be seen in their scores:
a row is complete when it has every triplet and seed that occurs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from profi import reports
from profi.reports.names import row_labels
from profi.reports.statistics import row_keys
from profi.types import UserError


def tables_of(folder: Path, with_paper: bool) -> list[reports.Table]:
    """Write and return the tables of the scores in `folder`."""
    path = folder / "scores.parquet"
    if not path.is_file():
        raise UserError(f"{path} does not exist: name the folder of a report or a recorded result")
    scores = pd.read_parquet(path)
    labels = row_labels(row_keys(scores))
    return reports.write_tables(folder, scores, reports.summarise(scores), labels, with_paper)


def main() -> None:
    """Print and write."""
    parser = argparse.ArgumentParser(description="the tables of recorded scores")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--paper", action="store_true", help="next to the paper's numbers")
    options = parser.parse_args()
    for folder in options.folders:
        print(f"## {folder}\n")
        for table in tables_of(folder, options.paper):
            print(reports.render_markdown(table))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
