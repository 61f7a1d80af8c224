"""The heat map, table and sentence of where leakage sits, from profiles whose answers are known."""

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from scipy import stats

from wireleak.lab.report.figures import heat_drawing
from wireleak.lab.report.layer_quantities import AUC, GROUPS, INVERTED, LATENT, ORIGINAL, QUANTITIES
from wireleak.lab.report.localised import answer, comparison, maps, table
from wireleak.lab.report.training_page import profiles
from wireleak.lab.run.results import Fit, Results

KINDS = ("conv", "conv", "conv", "linear", "linear")
FIRST, LATE = (0.7, 0.6, 0.4, 0.3, 0.1), (0.1, 0.2, 0.3, 0.8, 0.4)


def row(original: Any = FIRST, latent: Any = LATE, seed: Any = 0, shift: Any = 0.0, **changes: Any) -> Any:
    profile = [
        {
            "layer": f"{number}.0",
            "index": number + 1,
            "kind": kind,
            "parameters": 100 * (number + 1),
            "v_information": latent[number] + 0.05 + shift,
            "v_null": 0.05,
            "v_equalised": latent[number] / 2,
            "v_equalised_null": 0.0,
            "subspace": 0.7,
            "subspace_null": 0.7,
            "sensitivity": 0.01 * (number + 1),
            "sensitivity_input": 1e-5 * (number + 1),
            "original": original[number],
            "original_null": -0.02,
            "auc": 0.5 + latent[number] / 2,
        }
        for number, kind in enumerate(KINDS)
    ]
    shared = {"variant": "conv", "network": "mo-alexnet", "dataset": "digits", "target": "slant"}
    return shared | {"seed": seed, "profile": profile} | changes


def over_seeds(*rows: Any) -> Any:
    """The map of two equal seeds for each row; the intervals of equal seeds have no width."""
    return maps([one | {"seed": seed} for seed, one in enumerate([*rows, *rows])])[0]


def test_seeds_are_averaged_with_their_ends_less_the_null() -> None:
    (found,) = maps([row(), row(seed=1, shift=0.2)])
    assert found.seeds == 2 and len(found.layers) == 5
    span = found.layers[3].figures["v_information"]
    assert (span.mean, span.low, span.high) == pytest.approx((0.9, 0.8, 1.0))
    assert found.layers[0].figures["original"].mean == pytest.approx(0.7)
    assert found.layers[0].nulls["original"] == pytest.approx(-0.02)


def test_a_null_below_nothing_is_no_credit() -> None:
    one = row()
    for layer in one["profile"]:
        layer["v_null"] = -1.1
    assert maps([one])[0].layers[3].figures["v_information"].mean == pytest.approx(0.85)


def test_variants_networks_and_data_sets_stay_apart_in_their_order() -> None:
    rows = [row(), row(variant="fc", network="mo-fcnet"), row(dataset="fairface"), row(seed=1)]
    assert [(one.variant, one.dataset, one.seeds) for one in maps(rows)] == [
        ("conv", "digits", 2),
        ("fc", "digits", 1),
        ("conv", "fairface", 1),
    ]


def test_what_the_paper_found_is_found() -> None:
    found = answer(over_seeds(row()))
    assert found.original.holds is True and found.latent.holds is True
    assert (
        "1 conv has the most, 0.70 R² above its null (1 conv 0.70, 2 conv 0.60); the first layers minus all others: "
        "0.30 [0.30, 0.30] R², as in the paper" in found.text
    )
    assert "the first dense layers minus all others: 0.40 [0.40, 0.40] bits, as in the paper" in found.text
    assert found.correlation == pytest.approx(1.0) and "r = 1.00" in found.text


def test_what_it_did_not_find_is_said() -> None:
    found = answer(over_seeds(row(original=LATE, latent=FIRST)))
    assert found.original.holds is False and found.latent.holds is False
    assert found.text.count("not as in the paper") == 2
    # The output layer is dense, but none of the first dense layers.
    assert answer(over_seeds(row(latent=(0.1, 0.1, 0.1, 0.3, 0.5)))).latent.holds is False


def test_layers_that_seeds_do_not_tell_apart_are_no_finding() -> None:
    """The best of the first dense layers is compared with the best other layer of the same seed."""
    of_seeds = [(0.1, 0.2, 0.3, 0.6, 0.4), (0.1, 0.5, 0.2, 0.6, 0.4), (0.1, 0.2, 0.8, 0.6, 0.4)]
    found = answer(maps([row(latent=one, seed=seed) for seed, one in enumerate(of_seeds)])[0])
    margins = np.array([0.6 - 0.4, 0.6 - 0.5, 0.6 - 0.8])
    ends = stats.t.interval(0.95, 2, margins.mean(), stats.sem(margins))
    got = found.latent.margin
    assert (got.value, got.low, got.high) == pytest.approx((margins.mean(), *ends))
    assert found.latent.holds is None and found.latent.verdict == "undecided" and "undecided" in found.text
    # What all seeds share does not count: the margin is paired.
    shifted = [row(seed=seed, shift=shift) for seed, shift in enumerate((0.0, 0.4, 0.9))]
    assert answer(maps(shifted)[0]).latent.holds is True


def test_one_seed_decides_nothing() -> None:
    found = answer(maps([row()])[0])
    assert found.original.holds is None and found.latent.margin.value == pytest.approx(0.4)
    assert "0.40 bits, and one seed has no interval, undecided" in found.text


def test_the_correlation_is_numpys() -> None:
    one = row()
    for layer, auc in zip(one["profile"], (0.9, 0.5, 0.7, 0.6, 0.8), strict=True):
        layer["auc"] = auc
    found = answer(maps([one])[0])
    assert found.correlation == pytest.approx(np.corrcoef(LATE, (0.9, 0.5, 0.7, 0.6, 0.8))[0, 1])


def test_nothing_above_the_null_is_no_finding() -> None:
    nothing = (-0.1, -0.2, -0.1, -0.1, -0.3)
    found = answer(maps([row(original=nothing, latent=nothing)])[0])
    assert found.original.holds is None and found.latent.holds is None
    assert "no layer exceeds its null, so there is nothing to compare" in found.text
    # One seed below its null, and the mean above, is no finding either.
    assert answer(maps([row(), row(seed=1, shift=-0.9)])[0]).latent.holds is None
    # Nor is a mean above the null's mean that one draw of the null exceeds.
    one = row()
    for layer in one["profile"]:
        layer["v_null_high"] = 0.9
    assert answer(over_seeds(one)).latent.holds is None


def test_a_layer_that_was_not_read_is_a_dash() -> None:
    one = row()
    one["profile"][2] |= {"v_information": None, "v_null": None, "auc": None}
    (found,) = maps([one])
    assert math.isnan(found.layers[2].figures["v_information"].mean)
    assert "–" in heat_drawing(found).inline() and "–" in table(found)
    assert answer(found).latent.margin.value == pytest.approx(0.4)


def searched(one: Any, gains: Any, match: Any = 1.0) -> Any:
    """The profile of an attack that searched inputs in the same cell."""
    profile = [
        {name: layer[name] for name in ("layer", "index", "kind", "parameters")}
        | {"inverted": gain, "inverted_null": -3.0, "inverted_null_high": 0.0, "inverted_match": match}
        for layer, gain in zip(one["profile"], gains, strict=True)
    ]
    return one | {"target": "input", "profile": profile}


def test_a_search_in_the_same_cell_replaces_the_linear_readout() -> None:
    of_input = searched(row(), (-4.0, 20.0, 9.0, 7.0, -1.0))
    (found,) = maps([row(original=LATE), of_input, row(original=LATE, seed=1), of_input | {"seed": 1}])
    assert found.target == "slant" and found.original is INVERTED
    said = answer(found)
    assert said.original.holds is True and said.latent.holds is True
    assert "2 conv has the most, 20.00 dB above the mean input (1 conv −4.00, 2 conv 20.00)" in said.text
    assert "20.00</span> dB in 2 conv" in comparison([found]) and "inverted" in str(table(found))
    ET.fromstring(str(heat_drawing(found).inline()))


def test_a_search_alone_is_a_map_of_the_input() -> None:
    found = over_seeds(searched(row(), (-4.0, 20.0, 9.0, 7.0, -1.0)))
    said = answer(found)
    assert (found.target, said.original.holds, said.latent.holds) == ("input", True, None)
    assert "not measured" not in said.text and "<td>–</td>" in comparison([found])


def test_a_search_that_did_not_match_a_first_layer_leaves_the_question_open() -> None:
    late = (-4.0, 2.0, 9.0, 7.0, -1.0)
    assert answer(over_seeds(searched(row(), late))).original.holds is False
    said = answer(over_seeds(searched(row(), late, match=0.9)))
    assert (
        said.original.holds is None
        and said.text.count("undecided") == 1
        and "undecided, gradient of 1 conv and 2 conv not matched" in said.text
    )


def test_no_layer_that_the_mean_input_beats_counts() -> None:
    said = answer(over_seeds(searched(row(), (-4.0, -2.0, -1.0, -1.0, -1.0))))
    assert said.original.holds is None and "no layer exceeds" in said.text


def attribute(element: ET.Element | None, name: str) -> str:
    assert element is not None
    value = element.get(name)
    assert value is not None
    return value


def first(pattern: str, text: str) -> str:
    """The first group of the first match."""
    match = re.search(pattern, text)
    assert match is not None
    return str(match[1])


def test_the_heat_map_has_every_figure_and_each_column_normalised() -> None:
    (found,) = maps([row(), row(seed=1, shift=0.1)])
    drawing = heat_drawing(found)
    drawn = ET.fromstring(str(drawing.inline()))
    cells = [one for one in drawn.iter("g") if one.find("title") is not None]
    assert len(cells) == len(found.quantities) * 5
    # On a narrow page it scrolls rather than shrinks: 11 px stay 9 px at least.
    width = float(attribute(drawn, "viewBox").split()[2])
    least = float(first(r"min-width:(\d+)px", attribute(drawn, "style")))
    assert 11 * least / width >= 9
    words = {one.text for one in drawn.iter("text")}
    for place, quantity in enumerate(found.quantities):
        column = cells[5 * place : 5 * place + 5]
        means = found.means(quantity)
        for cell, layer, mean in zip(column, found.layers, means, strict=True):
            said = cell.findtext("title", "")
            assert said.startswith(f"{layer.title}, {quantity.heading} {quantity.unit}: {quantity.write(mean)}, ")
            assert quantity.write(mean) in words
        colours = [first(r"fill: (#\w{6})", attribute(cell.find("path"), "style")) for cell in column]
        if quantity.name == "subspace":
            assert set(colours) == {"#ffffff"}
            continue
        assert min(range(5), key=lambda number: int(colours[number][1:3], 16)) == int(np.argmax(means))
    bold = [one.text or "" for one in drawn.iter("text") if "font-weight: 700" in attribute(one, "style")]
    assert len(bold) == len(GROUPS) + len(found.quantities) - 1
    assert "0.80 to 0.90 over seeds" in drawing.inline()
    # 11 px digits, some 7 px each, fit into a cell.
    assert all(7 * len(text) < (width - 92) / len(found.quantities) for text in bold[len(GROUPS) :])


def test_the_table_has_every_number_its_ends_and_its_null() -> None:
    (found,) = maps([row(), row(seed=1, shift=0.1)])
    text = str(table(found))
    assert ET.fromstring(text) is not None
    assert text.count("<tr>") == 6 and text.count("null ") >= 20
    assert '0.85</span><br/><span class="interval">0.80 to 0.90</span><br/><span class="interval">null 0.05' in text
    assert {ORIGINAL.name, LATENT.name, AUC.name} < {one.name for one in QUANTITIES}


def test_names_from_outside_are_escaped() -> None:
    (found,) = maps([row(network="<script>", dataset='"&')])
    assert "<script>" not in heat_drawing(found).inline()
    ET.fromstring(str(heat_drawing(found).inline()))


def test_profiles_of_other_layers_are_refused() -> None:
    other = row(seed=1)
    other["profile"][0]["layer"] = "9.9"
    with pytest.raises(ValueError, match=r"variants\.conv: the profiles of its seeds have different layers"):
        maps([row(), other])


def test_rows_are_read_from_a_runs_results() -> None:
    kept = row()
    shared = {"variant": "conv-8", "seed": 3, "target": "slant"}
    fits = [
        Fit(**shared, attack="localise", network="mo-alexnet", profile=kept["profile"]),
        Fit(**shared, attack="property"),
    ]
    results = Results(study="s", created="", command="", dataset="digits", fits=fits)
    assert profiles(results) == [kept | {"variant": "conv-8", "seed": 3, "incomplete": ""}]


def test_variants_stand_side_by_side() -> None:
    text = str(comparison(maps([row(), row(seed=1, shift=0.2), row(variant="<b>", latent=FIRST)])))
    assert ET.fromstring(text) is not None and "<b>" not in text
    assert text.count("<tr>") == 3
    assert '0.70</span> R² in 1 conv<br/><span class="interval">0.70 to 0.70' in text
    assert '0.90</span> bits in 4 dense<br/><span class="interval">0.80 to 1.00' in text
    assert '0.70</span> R² in 1 conv</td><td><span class="value">0.70</span> bits in 1 conv</td>' in text
