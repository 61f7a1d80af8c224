"""What a log says: of the end of its process, and of how far it is."""

from __future__ import annotations

from pathlib import Path

from wireleak.lab.launch.endings import telling_line, with_progress


def test_the_last_line_of_progress_is_read_and_no_reason_for_an_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert (with_progress("lira", log), telling_line(log)) == ("lira", "")
    log.write_text("granted.surrogate: too few\nprogress: shadows, 3 of 46\nprogress: shadows, 12 of 46\n")
    assert with_progress("lira", log) == "lira (shadows, 12 of 46)"
    assert telling_line(log, exceptions=False) == "granted.surrogate: too few"


def test_a_line_of_progress_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 100_000 + b"\nprogress: \x1b[2Jshadows\x07 " + b"9" * 500)
    said = with_progress("lira", log)
    assert said.isprintable() and "\\x07" in said and len(said) <= 100
