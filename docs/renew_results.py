"""Run every study at its published size, in order, and renew its tables: `make results`, or name studies.

All runs are of one clean commit, and lie in `runs/results-COMMIT`. Give the command again after an interruption: the
interrupted run goes on, and finished ones are not repeated. Studies without their data on this machine are named.
Tables change only at the end: a changed file would mark all later runs as of an unclean commit.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import make_results

from wireleak.lab.archive.listing import Run, list_runs
from wireleak.lab.data import describe
from wireleak.lab.study.library import load_study, study_files


def main(names: list[str]) -> int:
    """Run the named studies, or all; return an exit status."""
    known = study_files()
    if unknown := [name for name in names if name not in known]:
        print(f"no study {unknown[0]!r}; `wireleak studies` lists them", file=sys.stderr)
        return 2
    if git("status", "--porcelain"):
        print("commit your changes first: tables come from runs of clean commits", file=sys.stderr)
        return 2
    out = Path("runs") / f"results-{git('rev-parse', '--short', 'HEAD')}"
    finished, failed = [], []
    for number, name in enumerate(chosen := names or list(known), 1):
        began = time.monotonic()
        print(f"{number} of {len(chosen)}: {name}", flush=True)
        if absent := missing_data(name):
            print(f"  left out: {absent}", flush=True)
        elif (run := last_run(out, name)) is not None and run.finished:
            finished.append(run.folder)
        elif run_study(out, name, None if run is None else run.folder):
            finished.append(out / f"{name}-latest")
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
        else:
            failed.append(name)
    make_results.main(finished)
    print(f"{len(finished)} of {len(chosen)} studies renewed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


def git(*words: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()


def missing_data(name: str) -> str | None:
    """Return how to obtain the study's data, if they are not on this machine."""
    (about,) = describe(load_study(name)[0].data.name)
    return None if about.where else about.obtain


def last_run(out: Path, name: str) -> Run | None:
    """Return the study's newest run, finished or not."""
    runs = list_runs(out) if out.is_dir() else []
    return next((run for run in runs if run.study == name), None)


def run_study(out: Path, name: str, interrupted: Path | None) -> bool:
    """Run a study, or go on with an interrupted run; return whether it ended well."""
    resume = [] if interrupted is None else ["--resume", str(interrupted)]
    command = [sys.executable, "-m", "wireleak", "run", name, "--out", str(out), *resume]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
