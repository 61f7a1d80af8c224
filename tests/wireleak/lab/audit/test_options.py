"""Options that a user writes as text, and limits that fail an audit."""

from __future__ import annotations

from typing import Any

import pytest

from wireleak.lab.audit.options import Limit, exceeded, limits, memory, seconds
from wireleak.lab.study.schema import StudyError


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 90), ("20m", 1200), ("1h", 3600), ("1h30m", 5400), ("1.5h", 5400)]
)
def test_times(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "20", "soon", "m", "20 x", "1s", "-5m"])
def test_no_times(text: str) -> None:
    with pytest.raises(StudyError, match=r"^--budget: ") as caught:
        seconds(text)
    assert "\n" not in str(caught.value)


def test_sizes_of_memory() -> None:
    assert memory("4G") == 4 * 2**30 and memory("1500m") == 1500 * 2**20
    for text in ("much", "100M"):
        with pytest.raises(StudyError, match=r"^--memory: "):
            memory(text)


def test_limits_are_shares() -> None:
    assert limits(("reid=5%", "auc = 0.6")) == (Limit("reid", 0.05), Limit("auc", 0.6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reit=5%", "no measure called 'reit'; did you mean 'reid'"),
        ("reid=5", r"reid=5 is no share from 0 to 1; did you mean reid=5%\?"),
        ("auc=high", r"auc=high is no share from 0 to 1; did you mean auc=5% or 0.05\?"),
        ("reid", r"'reid' is not \"measure=number\"; write reid=5%"),
    ],
)
def test_a_wrong_limit_is_one_line_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=f"^--fail-above: {message}") as caught:
        limits((text,))
    assert "\n" not in str(caught.value)


def cut(number: int, reid: float, auc: float, explained: float = 0.5) -> dict[str, Any]:
    return {
        "cut": number,
        "reconstruction": {"explained": explained, "reid": {"reid": reid}},
        "attributes": {"age": {"auc": auc}, "sex": {"auc": 0.5}},
    }


def test_an_audit_fails_where_every_cut_is_above_a_limit() -> None:
    cuts = [cut(1, 1.0, 0.9), cut(2, 0.04, 0.7)]
    assert exceeded(cuts, limits(("reid=5%", "auc=0.7"))) == []
    (said,) = exceeded(cuts, limits(("reid=3%", "auc=0.8", "explained=0.5")))
    assert said == "--fail-above: every cut is above reid 0.03; the lowest is cut 2 with 0.04"
    bare: dict[str, Any] = {"cut": 1, "reconstruction": None, "attributes": {}}
    assert "no attack gave a reid" in exceeded([bare], limits(("reid=5%",)))[0]
