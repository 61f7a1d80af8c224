"""`python -m wireleak`, and the `wireleak` command."""

from __future__ import annotations

import sys

from wireleak.lab.launch.imports import leave_working_folder


def main() -> None:
    """Run the command; a device that has only the wire's few packages is told what the rest needs."""
    # Before any other import. A file of the working folder that is called wireleak.py runs instead of this package when
    # the user types `python -m wireleak`, and so may one named like a module that Python itself starts with; nothing in
    # this package can prevent that. The command `wireleak`, and `python -P -m wireleak`, run none.
    leave_working_folder()
    try:
        from wireleak.cli import start
    except ModuleNotFoundError as error:
        sys.exit(f"wireleak: the package {error.name} is missing; install the testbed: pip install 'wireleak[lab]'")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(start())


if __name__ == "__main__":
    main()
