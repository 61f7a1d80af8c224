"""Print the ratios of every benchmark (`make bench`), each to its own baseline in the same run."""

import importlib
import pkgutil
import sys

from rich.console import Console
from rich.table import Table

import benchmarks


def main(only: list[str]) -> None:
    """Run each module of this folder that has `run()`, or only the named ones."""
    table = Table(title="benchmarks (ratios measured in this run)")
    for column in ("benchmark", "measure", "ratio", "target", "unit"):
        table.add_column(column)
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("_") or (only and module.name not in only):
            continue
        for row in importlib.import_module(f"benchmarks.{module.name}").run():
            table.add_row(module.name, row["name"], f"{row['ratio']:.2f}", str(row["target"]), row["unit"])
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
