"""The planted bugs of `make mutants` have their place in the code of today."""

from tests.mutants.__main__ import ROOT, bugs


def test_each_bug_can_be_planted_and_has_tests() -> None:
    planted = bugs([])
    assert len(planted) > 80
    for bug in planted:
        assert bug.planted((ROOT / bug.file).read_text()) and all((ROOT / test).exists() for test in bug.tests)
