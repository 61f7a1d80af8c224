"""Read a million mutated captures: python -m tests.fuzz [cases] [seed]; exits with 1 if one ends the reading."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.fuzz.run import fuzz

_PART = 5000
_LINES_EVERY = 10.0


def main(cases: int, seed: int) -> int:
    """Fuzz on every core and print what was found."""
    sizes = [min(_PART, cases - start) for start in range(0, cases, _PART)]
    events: Counter[str] = Counter()
    guarded: Counter[str] = Counter()
    failures: list[str] = []
    done, began, spoke = 0, time.monotonic(), 0.0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for part in as_completed([pool.submit(fuzz, size, seed + number) for number, size in enumerate(sizes)]):
            found = part.result()
            done += found.cases
            events += found.events
            guarded += found.guarded
            failures += found.failures
            if time.monotonic() - spoke > _LINES_EVERY or done == cases:
                spoke = time.monotonic()
                print(f"{done} of {cases} cases, {len(failures)} failures, {spoke - began:.0f} s", flush=True)
    print("events:", ", ".join(f"{count} {name}" for name, count in events.most_common()))
    print("faults that cost one message or direction:", dict(guarded.most_common()) or "none beyond the decoders' own")
    for failure in failures[:20]:
        print("FAILURE:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    raise SystemExit(main(*(numbers + [1_000_000, 0][len(numbers) :])))
