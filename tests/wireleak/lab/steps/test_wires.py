"""A cell's links, as the adversary lists them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.run.layout import CellFolder
from wireleak.lab.steps.wires import inspect_captures


def test_a_link_that_nobody_used_is_listed_without_a_look_at_its_capture(tmp_path: Path) -> None:
    """A client that is never asked to train, or dies before, leaves a capture without packets."""
    folder = CellFolder(tmp_path)
    tap = tmp_path / "tap"
    tap.mkdir()
    variant = SimpleNamespace(name="wide", linked=True, seen_as="plaintext")
    listed = SimpleNamespace(
        name="wide-seed0", variant=variant, seed=0, captures=folder.captures, inspected=folder.inspected, log=folder.log
    )
    cell: Any = listed
    (tap / "train-client-1.pcap").write_bytes(bytes(24))
    with pytest.raises(LaunchError, match="wide-seed0: nothing crossed a link"):
        inspect_captures(cell, None)  # type: ignore[arg-type]
    (tap / "train-client-0.pcap").write_bytes(bytes(100))
    asked: list[list[str]] = []

    def start(name: str, argv: list[str], output: Path, **_: Any) -> None:
        asked.append(argv)
        output.parent.mkdir()
        capture = f'"capture": "{tap / "train-client-0.pcap"}", "calls": [], "tensors": [], "streams": []'
        output.write_text(
            f'{{"captures": [{{{capture}, "first": 1, "last": 2, "bursts": [], "faults": [], "notes": []}}]}}'
        )

    launcher: Any = SimpleNamespace(start=start, finish=lambda process, seconds: None)
    used, unused = inspect_captures(cell, launcher)
    assert len(asked) == 1 and not any("client-1" in word for word in asked[0])
    assert (used.link_name, used.first) == ("train-client-0", 1)
    assert (unused.link_name, unused.notes) == ("train-client-1", ["nothing crossed this link"])
