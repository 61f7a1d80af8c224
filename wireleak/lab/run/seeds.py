"""The secret of a run, from which every party's seed derives by name.

An attacker that knew the seed of another party could repeat its draws: which inputs the victims send, which rounds hold
a property, which records are members, and the noise of a defence. So a party gets its own seed only, and no seed tells
anything about another one or about the secret.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from wireleak.common.files import OWNER, write_atomically
from wireleak.lab.data.roles import Turn
from wireleak.lab.run.division import DivisionSeed
from wireleak.lab.study.schema import StudyError

# Names the file of `--secret`, for commands that run studies of their own.
SECRET = "WIRELEAK_SECRET"
_BYTES = 32


@dataclass(frozen=True)
class Seeds:
    """Seeds by name.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    repeated : bool
        Whether the user gave the secret to repeat a run; every draw then follows from it, a defence's noise included.
    """

    secret: bytes = field(repr=False)
    repeated: bool = False

    @classmethod
    def draw(cls) -> Self:
        """Draw a secret from the system."""
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def given_or_drawn(cls, secret: Path | None = None) -> Self:
        """Read the secret of `--secret`, or of the file that WIRELEAK_SECRET names, or draw one.

        Raises
        ------
        StudyError
            The file holds no secret.
        """
        given = secret or os.environ.get(SECRET)
        return cls.read(Path(given), "--secret", repeated=True) if given else cls.draw()

    @classmethod
    def read(cls, path: Path, where: str, *, repeated: bool) -> Self:
        """Read a secret that `write` or a user wrote, as 64 hexadecimal digits.

        Parameters
        ----------
        path : Path
        where : str
            Begins the message of an error.
        repeated : bool

        Raises
        ------
        StudyError
            There is no such file, or it holds something else.
        """
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            raise StudyError(
                f"{where}: no file {path}; runs of older versions have no secret, run the study again"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"{where}: cannot read {path}: {getattr(error, 'strerror', 'it is no text')}") from None
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            secret = b""
        if len(secret) != _BYTES:
            raise StudyError(
                f"{where}: {path} does not hold {2 * _BYTES} hexadecimal digits; give a run's sealed/secret, "
                f"or make one with: openssl rand -hex {_BYTES}"
            )
        return cls(secret, repeated)

    def write(self, path: Path) -> None:
        """Write the secret to a file that only its owner can read."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, f"{self.secret.hex()}\n".encode(), OWNER)

    def division(self, number: int) -> DivisionSeed:
        """Return how the data are divided with the seed of this number."""
        return DivisionSeed(self.seed(number, "division"), Turn(self.seed("order of victims"), number))

    def seed(self, *names: str | int, bits: int = 63) -> int:
        """Return the seed of what `names` name, such as ("division", 0).

        Parameters
        ----------
        names : str or int
        bits : int
            Its size; scikit-learn takes 31.

        Returns
        -------
        int
            0 to 2**bits - 1.
        """
        named = "/".join(map(str, names)).encode()
        return int.from_bytes(hmac.digest(self.secret, named, "sha256")[:8], "little") >> (64 - bits)
