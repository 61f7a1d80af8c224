"""Every party's seed derives from the run's secret, and tells nothing about another one."""

import stat
from pathlib import Path

import numpy as np
import pytest

from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.plan import Plan, make_plan
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError


def test_a_secret_is_read_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    drawn = Seeds.draw()
    drawn.write(tmp_path / "sealed" / "secret")
    assert Seeds.read(tmp_path / "sealed" / "secret", "--secret", repeated=False) == drawn
    assert stat.S_IMODE((tmp_path / "sealed" / "secret").stat().st_mode) == 0o600
    assert drawn.secret.hex() not in repr(drawn)


def test_seeds_differ_by_name_and_by_secret() -> None:
    one, other = Seeds(bytes(32)), Seeds(bytes([1]) * 32)
    names = [("division",), (0, "division"), (1, "division"), (0, "victim"), (0, "attack", "inversion", "input")]
    drawn = [source.seed(*name) for source in (one, other) for name in names]
    assert len(set(drawn)) == len(drawn) and all(0 <= seed < 2**63 for seed in drawn)
    assert all(one.seed(0, "attack", number, bits=31) < 2**31 for number in range(100))
    assert one.seed(0, "victim") == Seeds(bytes(32)).seed(0, "victim")


@pytest.mark.parametrize("text", ["", "00", "no hexadecimal digits", "00" * 33])
def test_something_else_is_no_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    with pytest.raises(StudyError, match=r"--secret: .*secret does not hold 64 hexadecimal digits"):
        Seeds.read(tmp_path / "secret", "--secret", repeated=True)


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--resume: no file .*secret; runs of older versions have no secret"):
        Seeds.read(tmp_path / "secret", "--resume", repeated=False)


def test_whoever_knows_the_number_of_a_seed_does_not_know_the_victims() -> None:
    """The numbers of a study's seeds are public: what they stand for follows from the secret."""
    study, _ = load_study("digits")

    def victims(plan: Plan) -> set[int]:
        return set(plan.first.roles.victims.tolist())

    first, again, other = (make_plan(study, seeds=1, secret=Seeds(key)) for key in (bytes(32), bytes(32), b"x" * 32))
    assert victims(first) == victims(again)
    count, pool = len(victims(first)), len(first.dataset)
    shared = len(victims(first) & victims(other))
    # Two independent draws share count**2 / pool inputs on average.
    assert shared < 2 * count**2 / pool
    assert not np.array_equal(first.first.roles.victims, other.first.roles.victims)
