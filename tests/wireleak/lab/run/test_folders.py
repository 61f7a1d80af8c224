"""The folder of a run is written by one command at a time, and keeps the time of all of them."""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from wireleak.lab.run.folders import held, timed
from wireleak.lab.study.schema import StudyError

HOLD = """
import sys, time
from pathlib import Path
from wireleak.lab.run.folders import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_s_folder_is_kept_from_a_second_command_until_the_first_ends_or_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        message = f"^--resume: {re.escape(str(tmp_path))} is still being written by another command; wait"
        with pytest.raises(StudyError, match=message), held(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    for _ in range(2):
        with held(tmp_path):
            pass


def test_the_time_of_a_resumed_run_is_that_of_its_parts_together(tmp_path: Path) -> None:
    now = time.monotonic()
    with suppress(KeyboardInterrupt), timed(tmp_path, now - 100) as began:
        assert began == now - 100
        raise KeyboardInterrupt
    with timed(tmp_path, now - 20) as began:
        assert 119 < time.monotonic() - began < 150
    assert 119 < json.loads((tmp_path / "seconds.json").read_text()) < 150
