import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import observations


def run(*argv: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adversary", "extract", *map(str, argv)], capture_output=True, text=True, check=False
    )


def test_rows_are_the_captured_tensors_in_order(captures: Any, tmp_path: Path) -> None:
    out = tmp_path / "z.npz"
    paths = [captures["plaintext"]["device"]]
    done = run("--kind", "activation", "--output", out, *paths)
    assert done.returncode == 0, done.stderr
    sent = [seen.tensor for seen in observations(paths) if seen.kind is Kind.ACTIVATION]
    with np.load(out) as stored:
        np.testing.assert_array_equal(stored["activation"], np.concatenate(sent))


@pytest.mark.parametrize("kind", ["label", "activation-gradient"])
def test_a_kind_that_is_not_there_is_one_line(captures: Any, tmp_path: Path, kind: str) -> None:
    done = run("--kind", kind, "--output", tmp_path / "z.npz", *[captures["plaintext"]["device"]])
    assert done.returncode == 2
    assert (
        done.stderr.strip() == f"extract: --kind: the captures hold no {kind}; `wireleak inspect` lists what they hold"
    )
    assert not (tmp_path / "z.npz").exists()


def test_a_disk_that_is_full_is_said_in_words(captures: Any) -> None:
    done = run("--kind", "activation", "--output", "/dev/full/z.npz", captures["plaintext"]["device"])
    assert done.returncode == 2
    assert (
        done.stderr.startswith("extract: /dev/full") and "Errno" not in done.stderr and "\n" not in done.stderr.strip()
    )


def test_an_unknown_kind_lists_the_known(captures: Any, tmp_path: Path) -> None:
    done = run("--kind", "secret", "--output", tmp_path / "z.npz", captures["plaintext"]["device"])
    assert done.returncode == 2
    assert "--kind: no kind called 'secret'; choose one of activation" in done.stderr
