"""Plant each bug of the TOML files here in a copy of the project, and see whether the tests of its folder catch it.

`python -m tests.mutants` plants all bugs. `python -m tests.mutants tap/decode reid` plants only those in files with one
of these words in their path. It prints a line a bug and fails if fewer than 95 % are caught.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOBS = 2
WANTED = 0.95
_CODE = ("wireleak", "client", "server", "adversary", "tests", "proto", "pyproject.toml")
_LEFT_OUT = shutil.ignore_patterns("node_modules", "__pycache__", ".*", "dist")


@dataclass(frozen=True)
class Bug:
    """A wrong text in place of a right one, and the tests that should notice."""

    file: str
    find: str
    plant: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file, and what it plants."""
        return f"{self.file}: {self.find}  ->  {self.plant or '(nothing)'}"

    def planted(self, code: str) -> str:
        """Return the file's text with the bug.

        Raises
        ------
        ValueError
            The text to replace does not occur once.
        """
        if code.count(self.find) != 1:
            raise ValueError(f"{self.file}: {self.find!r} occurs {code.count(self.find)} times; it must occur once")
        return code.replace(self.find, self.plant)


def bugs(parts: list[str]) -> list[Bug]:
    """Return the listed bugs; with parts, only those in files with one of the parts in their path."""
    files = sorted(Path(__file__).parent.glob("*.toml"))
    entries = [entry for file in files for entry in tomllib.loads(file.read_text())["bug"]]
    found = [Bug(**entry | {"tests": tuple(entry.get("tests", [_folder(entry["file"])]))}) for entry in entries]
    return [bug for bug in found if not parts or any(part in bug.file for part in parts)]


def _folder(file: str) -> str:
    """Return the tests' folder of a file: its own, or the nearest one above."""
    return next(str(folder) for folder in (Path("tests") / file).parents if (ROOT / folder).is_dir())


def fails(copy: Path, tests: tuple[str, ...]) -> bool:
    """Run tests in a copy; return whether one failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not study", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=copy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode != 0


def caught(some: list[Bug]) -> Iterator[tuple[Bug, bool]]:
    """Yield each bug and whether its tests caught it, from one copy of the project."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for part in _CODE:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=_LEFT_OUT)
            else:
                shutil.copy(source, copy / part)
        for tests in sorted({bug.tests for bug in some}):
            if fails(copy, tests):
                raise SystemExit(f"{', '.join(tests)}: fails without a bug; mend that first")
        for bug in some:
            path = copy / bug.file
            right = path.read_text()
            path.write_text(bug.planted(right))
            yield bug, fails(copy, bug.tests)
            path.write_text(right)


def main() -> None:
    """Plant the bugs of the parts that the command line names, in several copies at once."""
    chosen = bugs(sys.argv[1:])
    if not chosen:
        raise SystemExit(f"no file of a planted bug holds {' or '.join(sys.argv[1:])}")
    for bug in chosen:
        bug.planted((ROOT / bug.file).read_text())
    survivors = []

    def work(share: list[Bug]) -> None:
        for bug, seen in caught(share):
            print(f"{'caught  ' if seen else 'SURVIVED'} {bug.name}", flush=True)
            if not seen:
                survivors.append(bug)

    # Bugs of one folder stay together, so that its tests run once without a bug.
    ordered = sorted(chosen, key=lambda bug: bug.tests)
    half = -(-len(ordered) // JOBS)
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(work, [ordered[at : at + half] for at in range(0, len(ordered), half)]))
    share = 1 - len(survivors) / len(chosen)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} bugs were caught ({share:.1%}); {WANTED:.0%} are wanted")
    if share < WANTED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
