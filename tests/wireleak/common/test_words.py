from wireleak.common.words import counted


def test_a_number_has_its_noun_in_the_form_that_it_needs() -> None:
    assert [counted(number, "cell") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert counted(1, "capture was", "captures were") == "1 capture was"
    assert counted(3, "capture was", "captures were") == "3 captures were"
