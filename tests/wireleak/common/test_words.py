from pathlib import Path

import pytest

from wireleak.common.words import counted, decimal, listed, told, without_folders


def test_a_number_has_its_noun_in_the_form_that_it_needs() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert counted(1, "capture was", "captures were") == "1 capture was"
    assert counted(3, "capture was", "captures were") == "3 captures were"


def test_a_number_has_a_true_minus_sign_and_zero_none() -> None:
    assert [decimal(value, ".1f") for value in (1.25, -1.26, -0.04, 0.0)] == ["1.2", "−1.3", "0.0", "0.0"]


def test_names_are_joined_as_in_a_sentence() -> None:
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_a_mistake_of_the_system_has_its_words_and_its_file() -> None:
    assert told(FileNotFoundError(2, "No such file or directory", "/no.key")) == "/no.key: No such file or directory"
    assert told(OSError(28, "No space left on device")) == "No space left on device"
    assert told(OSError("cannot listen on\n :1")) == "cannot listen on :1"
    assert told(ValueError("cut: 9")) == "cut: 9"


def test_an_error_that_crosses_the_wire_names_no_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "Ann Smith", tmp_path / "ann's runs"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    said = f"train: no file '{work}/client-0/train.npz', as {home}/data.toml and /data/ann/x.npz say; give 3/4 or a/b/c"
    assert without_folders(said) == (
        "train: no file './client-0/train.npz', as ~/data.toml and x.npz say; give 3/4 or a/b/c"
    )
