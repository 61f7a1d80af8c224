"""`wireleak audit`: a network of the user's own, cut, served, tapped, attacked and compared."""

import csv
import io
import json
import os
import random
import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from rich.console import Console

from server.updates import with_dtypes_of
from wireleak.common.models import build, load_arrays
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan
from wireleak.lab.audit.audit import by_cut, open_cuts
from wireleak.lab.audit.captures import words_read
from wireleak.lab.audit.chart import leakage_drawing
from wireleak.lab.audit.cost import Cost
from wireleak.lab.audit.options import numbers
from wireleak.lab.audit.readings import CutReading, WordsRead
from wireleak.lab.audit.report import remarks, terminal_table
from wireleak.lab.audit.rows import AttributeLeak, CutRow, Reconstruction, count, gravest, judged, verdict
from wireleak.lab.audit.studies import all_attacks, audit_study, cheap_attacks, strong_attacks
from wireleak.lab.audit.subject import Audited, Request, Subject, examine
from wireleak.lab.data import DataError
from wireleak.lab.report.boards import Board, SeedMean
from wireleak.lab.report.verdicts import Verdict
from wireleak.lab.study.schema import Study, StudyError

ROOT = Path(__file__).resolve().parents[4]
MODEL = f"{ROOT / 'examples' / 'audit_model.py'}:make"
TEXTS = f"{ROOT / 'examples' / 'audit_model.py'}:make_text"
MOODS = {"glad": ["good", "great", "joy", "nice"], "sad": ["bad", "awful", "pain", "gloomy"]}
PETS = {"cat": ["purr", "kitten", "meow"], "dog": ["bark", "puppy", "leash"]}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose mood is the task and whose pet is private."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "mood", "pet", "same"])
        for _ in range(1500):
            mood, pet = rng.choice(list(MOODS)), rng.choice(list(PETS))
            words = [rng.choice(MOODS[mood]), rng.choice(PETS[pet]), rng.choice(PETS[pet])]
            words += rng.sample(["the", "a", "of", "and", "to", "in", "it", "was", "for", "on", "with", "as"], 8)
            rng.shuffle(words)
            table.writerow([" ".join(words), mood, pet, "all"])
    return path


def test_the_audit_is_a_study_that_can_be_run_again() -> None:
    subject = examine(Request(MODEL, "digits", attributes=("slant",), cuts=(1, 4), seeds=2))
    study = Study.model_validate(tomllib.loads(audit_study(subject, "audit-make", Path("/w"), all_attacks(subject))))
    # The last cut is served first: where time ends early, the middle is missing.
    assert [(one.name, one.cut, one.title) for one in study.variants] == [
        ("cut-4", 4, "Cut 4, after stages_2"),
        ("cut-1", 1, "Cut 1, after stem"),
    ]
    assert study.model.name == MODEL and study.seeds == (0, 1) and study.model.trained
    assert study.weights_of(study.variants[0], 1) == "/w/seed1.safetensors"
    assert {(one.name, one.targets) for one in study.attacks} >= {
        ("inversion", ("input",)),
        ("inverse-network", ("input",)),
        ("rmle", ("input",)),
        ("attributes", ("slant",)),
    }


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 64, 65, 66])
def test_no_client_trains_on_a_last_batch_of_one(count: int) -> None:
    """Batch normalisation refuses a single example."""
    batches = [
        len(rows) for rows in Training(ClientPlan(epochs=1, batch=32, learning_rate=0.01), (0, 1)).batches(count)
    ]
    assert sum(batches) == count and all(32 <= size <= 33 for size in batches[:-1])
    assert min(batches) > 1 or count == 1


def test_by_default_up_to_six_cuts_from_the_first_to_the_last_are_audited() -> None:
    assert examine(Request(MODEL, "digits")).cuts == (1, 2, 3, 4)
    assert examine(Request(MODEL, "digits", quick=True)).cuts == (1, 3, 4)


def test_words_are_guessed_where_they_are_mixed(texts: Path) -> None:
    subject = examine(Request(TEXTS, str(texts), task="mood", attributes=("pet",), options=("length=12",)))
    assert subject.is_text and subject.dataset.input_shape == (12,)
    uses = {one["name"]: one for one in all_attacks(subject)}
    assert set(uses) == {"attributes", "word-set"} and subject.network.activation_shape(1)[0] == 12
    assert "cut-1" not in uses["word-set"]["variants"] and f"cut-{subject.cuts[-1]}" in uses["word-set"]["variants"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cuts": (9,)}, StudyError, r"--cuts: the network cannot be cut at 9; choose one of 1 \(after stem\), 2"),
        ({"attributes": ("colour",)}, DataError, "colour"),
        ({"task": "colour"}, DataError, "colour"),
        ({"data": "nowhere"}, DataError, "--data: no data set called 'nowhere'; choose one of "),
        ({"data": "nowhere.csv"}, DataError, "--data: no file .*nowhere.csv"),
        ({"data": "."}, DataError, "--task: name the column"),
        ({"model": MODEL.replace(":make", ":Residual")}, StudyError, "the factory .*:Residual failed: TypeError"),
        ({"model": MODEL.replace("_model", "_none")}, StudyError, "no file"),
        ({"model": "torch.nn:Identity"}, StudyError, r"returns \(2, 1, 28, 28\) for 2 inputs"),
        ({"options": ("size",)}, StudyError, "--option: 'size' is not \"name=value\""),
        ({"options": ("size=3",)}, DataError, "no option called 'size'"),
    ],
)
def test_a_users_mistake_is_one_line(change: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        examine(replace(Request(MODEL, "digits"), **change))
    assert "\n" not in str(caught.value)


def test_an_attribute_with_one_class_is_refused(texts: Path) -> None:
    with pytest.raises((StudyError, DataError), match=r"same (has only one class|has one class|holds only one value)"):
        examine(Request(TEXTS, str(texts), task="mood", attributes=("same",)))


def test_cuts_are_numbers() -> None:
    assert numbers("1, 3") == (1, 3)
    with pytest.raises(StudyError, match="--cuts: '1;3' is not a list of numbers"):
        numbers("1;3")


def test_words_are_read_where_one_vector_a_word_crosses() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(30, 5)).astype(np.float32)
    own, theirs = rng.integers(0, 30, (40, 6)), rng.integers(0, 30, (20, 6))
    read = words_read(table[own], own, table[theirs], theirs)
    assert read is not None
    assert read.share == 1.0 and read.n == (theirs > 0).sum() and read.majority < 0.2
    noise = words_read(rng.normal(size=(40, 6, 5)), own, rng.normal(size=(20, 6, 5)), theirs)
    assert noise is not None and noise.share < 0.2
    assert words_read(table[own].mean(1), own, table[theirs].mean(1), theirs) is None


def test_an_average_keeps_the_count_of_batch_normalisation_whole() -> None:
    """Flower averages every array as floats; a count that comes back as float64 would have every client dropped."""
    model = ArrayRecord({"count": Array(np.array(3, np.int64)), "weight": Array(np.ones(2, np.float32))})
    averaged = ArrayRecord({"count": Array(np.array(4.6)), "weight": Array(np.full(2, 0.5, np.float32))})
    kept = with_dtypes_of(model, averaged)
    assert {name: (one.dtype, tuple(one.shape)) for name, one in kept.items()} == {
        "count": ("int64", ()),
        "weight": ("float32", (2,)),
    }
    assert kept["count"].numpy() == 5


def score(measure: str, value: float, half: float = 0.01, target: str = "input", cut: int = 1) -> SeedMean:
    return SeedMean(
        study="s", variant=f"cut-{cut}", link="plaintext", vantage="gateway", attack="inversion", target=target,
        measure=measure, value=value, low=value - half, high=value + half, n=100, role="attack", name="", seeds=1,
        chance=None, by_seed=((0, value),),
    )  # fmt: skip


LEAK = Verdict("leak")


def row(cut: Any, mse: Any, auc: Any, half: Any = 0.01, floats: Any = 100) -> CutRow:
    leak = AttributeLeak("age", score("auc", auc, half, "age", cut), 0.5, 0.5, None)
    rebuilt = Reconstruction("inversion", score("mse", mse, half / 10, cut=cut), 0.1, None)
    cost = Cost(floats, 4 * floats, 2_000_000, 12_345)
    return CutRow(cut, f"layer{cut}", cost, 4.0 * floats, 0.9 + cut / 100, 0.5, rebuilt, None, (leak,), LEAK)


def test_the_verdict_names_the_cut_that_leaks_least_and_its_cost() -> None:
    said = verdict([row(1, 0.01, 0.95), row(2, 0.08, 0.6), row(3, 0.05, 0.9)])
    assert said[0].startswith("Cut 2 (after layer2) leaks least: the best reconstruction (inversion) explains 20.0")
    assert "12.3 k parameters, spends 2.0 M FLOPs and sends 100 floats (400 B)" in said[0]
    assert "accuracy is 92.0" in said[0] and "best of all cuts: 93.0" in said[0]
    assert len(said) == 2
    assert verdict([row(1, 0.01, 0.95)])[0].startswith("Cut 1 (after layer1): the best reconstruction")


def test_the_verdict_admits_what_intervals_do_not_tell_and_what_parts_tell_otherwise() -> None:
    alike = verdict([row(1, 0.080, 0.60, half=0.2), row(2, 0.081, 0.61, half=0.2)])
    assert "do not distinguish it from" in alike[2]
    mixed = verdict([row(1, 0.09, 0.80), row(2, 0.02, 0.60)])
    assert mixed[0].startswith("Cut 1") and "For age only, Cut 2 (after layer2) leaks less." in mixed


def test_of_texts_the_words_found_count_beyond_the_commonest() -> None:
    found = Reconstruction("word-set", score("words-found", 0.44), 0.30, None)
    assert found.explained == pytest.approx(0.14 / 0.70) and found.is_text
    said = verdict([replace(row(1, 0.1, 0.9), reconstruction=found)])
    assert "the best reconstruction (word-set) finds 20.0\u00a0% of the words that the commonest words miss" in said[0]


def test_a_text_cut_whose_words_have_no_place_says_so() -> None:
    bare = [replace(one, reconstruction=None) for one in (row(1, 0.1, 0.9), row(2, 0.1, 0.8))]
    said = verdict([replace(bare[0], words=WordsRead(0.99, 0.1, 500)), bare[1]])
    assert said[0].startswith("Cut 2") and "guessed only which words a text contains" in said[2]
    assert "Nothing was attacked" in verdict([replace(bare[0], attributes=())])[0]


def test_the_chart_stands_by_itself() -> None:
    chart = str(leakage_drawing([row(1, 0.01, 0.95, floats=2000), row(2, 0.08, 0.6)]).inline())
    assert chart.count("</title>") == 4 and "8.0 kB" in chart and "http" not in chart
    assert str(leakage_drawing([row(1, 0.01, 0.95)]).inline()).startswith("<svg")


def test_numbers_are_written_as_people_read_them() -> None:
    assert [count(one) for one in (12, 999, 1234, 2.5e6, 7e11)] == ["12", "999", "1.2 k", "2.5 M", "700 G"]


@pytest.mark.study
def test_the_example_of_the_help_audits_the_example_network(tmp_path: Path, wireleak: Any) -> None:
    shown = wireleak("audit", "--help", cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}).stdout
    example = re.search(r"Example: wireleak (.+)", shown)
    assert example is not None
    line = example[1].strip()
    done = wireleak(*shlex.split(line), "--attributes", "slant", "--out", tmp_path / "runs", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    run = (tmp_path / "runs" / "audit-make-latest").resolve()
    found = json.loads((run / "audit.json").read_text())
    first, middle, last = found["cuts"]
    assert [one["floats"] for one in found["cuts"]] == [6272, 1568, 64]
    assert first["flops"] < middle["flops"] < last["flops"] and first["accuracy"] > 0.6
    assert first["reconstruction"]["explained"] > 0.9 > 0.6 > last["reconstruction"]["explained"]
    assert first["bytes_sent"] > 4 * 6272
    assert first["attributes"]["slant"]["auc"] > 0.8 and first["attributes"]["slant"]["v_information"]["bits"] > 0.1
    assert found["verdict"][0].startswith("Cut 4 (after stages_2) leaks least")
    page = (run / "audit.html").read_text()
    assert "<svg" in page and "Cut 4" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "audit: cost and leakage of each cut" in done.stdout and str(run / "audit.html") in done.stdout
    saved = load_arrays(run / "network" / "seed0.safetensors")
    counts = {str(one.dtype) for name, one in saved.items() if name.endswith("num_batches_tracked")}
    # The weights have the author's own names, so that the author's code can load them.
    assert counts == {"int64"} and set(saved) == set(build(MODEL, (1, 28, 28), 2, 0).whole.state_dict())


@pytest.mark.study
def test_a_text_network_is_audited(tmp_path: Path, texts: Path, wireleak: Any) -> None:
    asked = ("--task", "mood", "--attributes", "pet", "--option", "length=12", "--cuts", "1,3", "--quick")
    done = wireleak("audit", TEXTS, "--data", texts, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "runs" / "audit-make-text-latest" / "audit.json").read_text())
    first, last = found["cuts"]
    assert first["words"]["share"] > 0.9 and last["words"] is None and first["reconstruction"] is None
    assert last["reconstruction"]["measure"] == "words-found" and last["reconstruction"]["by"] in (
        "word-set",
        "nearest",
    )
    assert first["attributes"]["pet"]["auc"] > 0.8


def test_within_a_budget_attacks_go_where_the_cheap_reading_leaves_the_most_open() -> None:
    settled, open_one, least = row(1, 0.01, 0.95), row(2, 0.06, 0.8), row(3, 0.09, 0.6)
    chosen, why = open_cuts([replace(settled, verdict=LEAK), open_one, replace(least, verdict=LEAK)])
    assert chosen == [3, 2] and list(why) == [1]
    assert "already shows that it leaks" in why[1]
    # A cut that nothing has read has no leakage, and must not come before the least leaky one.
    unread = replace(row(2, 0.06, 0.8), reconstruction=None, attributes=())
    assert open_cuts([replace(settled, verdict=LEAK), unread, least])[0] == [3, 2]
    # The cut that would be recommended is attacked in any case.
    assert open_cuts([replace(settled, verdict=LEAK)])[0] == [1]
    subject = examine(Request(MODEL, "digits", attributes=("slant",), cuts=(1, 4)))
    assert [use["name"] for use in cheap_attacks(subject)] == ["linear", "attributes"]
    assert {tuple(use["variants"]) for use in strong_attacks(subject, [4])} == {("cut-4",)}


def test_skipped_attacks_are_named_by_their_cut() -> None:
    found = by_cut({"cut-3-seed0-rmle-input": "no time", "cut-3-seed1-inversion-input": "x"}, {1: "settled"})
    assert found == {1: {"trained decoders": "settled"}, 3: {"rmle": "no time", "inversion": "x"}}


def test_verdicts_are_absolute_too() -> None:
    leaking = [replace(one, verdict=LEAK) for one in (row(1, 0.01, 0.95), row(2, 0.08, 0.6))]
    assert verdict(leaking)[1] == "Every cut leaks."
    mixed = [replace(leaking[0], verdict=LEAK), replace(leaking[1], verdict=Verdict("open"))]
    assert verdict(mixed)[1].startswith(
        "Leaks: cut 1; Not resolved: cut 2. That an attack found nothing does not prove"
    )
    doubted = verdict(leaking, ["The network did not learn its task."])
    assert doubted == ["The network did not learn its task.", "No cut is recommended. Every cut leaks."]


def test_who_is_identified_counts_as_leakage_where_pixels_do_not() -> None:
    rebuilt = row(1, 0.09, 0.5).reconstruction
    assert rebuilt is not None
    assert rebuilt.leakage == pytest.approx(rebuilt.explained)
    named = replace(rebuilt, reid=replace(score("reid", 0.8), chance=0.01))
    assert named.leakage == pytest.approx(0.79 / 0.99)


def test_the_strongest_reader_decides_the_verdict_of_a_wire() -> None:
    """A decoder that learnt nothing does not hide that the linear reader re-identifies victims."""

    def scored(measure: str, value: float, name: str, role: Any) -> SeedMean:
        return replace(score(measure, value, 0.005), name=name, role=role, chance=0.01 if measure == "reid" else None)

    own = [scored("mse", 0.1, "", "attack"), scored("reid", 0.01, "", "attack")]
    blind = [scored("mse", 0.1, "mean", "baseline"), scored("reid", 0.01, "mean", "baseline")]
    linear = [scored("mse", 0.05, "ridge", "reader"), scored("reid", 0.9, "ridge", "reader")]
    board = Board("cut-1", "plaintext", "gateway", "inversion", "input", (*own, *blind))
    assert gravest([board]).silent
    assert gravest([replace(board, scores=(*own, *blind, *linear))]) == LEAK


def test_a_cut_without_an_attack_on_its_input_counts_by_its_cheap_reading() -> None:
    read = CutReading(2, 40, 20, "ridge", 0.02, 0.01, 0.03, 0.1, 0.5, 0.3, 0.7, 0.05)
    assert read.outcome == "leak"
    assert replace(read, high=0.2).outcome == "part" and replace(read, high=0.2, reid_low=0.0).outcome == "open"
    assert replace(read, reid_low=0.043478260869565216, chance=0.04347826086956521).outcome == "part"
    unattacked = replace(row(2, 0.06, 0.5), reconstruction=None, survey=read)
    assert unattacked.leakage == pytest.approx(0.8 / 2)
    # By its attribute only, it would be the best cut.
    assert verdict([row(1, 0.05, 0.5), unattacked])[0].startswith("Cut 1 (after layer1) leaks least")


def test_a_cut_that_nothing_attacked_is_not_recommended() -> None:
    read = CutReading(2, 40, 20, "ridge", 0.1, 0.05, 0.15, 0.1, 0.05, 0.0, 0.1, 0.05)
    bare = replace(row(2, 0.06, 0.5), reconstruction=None, attributes=(), verdict=None, survey=read)
    said = verdict([row(1, 0.05, 0.9), bare])
    assert said[0].startswith("No cut is recommended. Cut 2 (after layer2): ridge on 40 pairs and 20 victims")
    assert "but nothing has attacked it. Use a longer --budget." in said[2]
    # What was attacked at one cut only does not make two cuts alike.
    assert not any("do not distinguish" in line for line in said)
    nothing = "No cut was served, so nothing is recommended. Use a longer --budget."
    assert verdict([], ["Not learnt."]) == ["Not learnt.", nothing]


@pytest.mark.parametrize(
    ("high", "reid_low", "expected"), [(0.03, 0.3, "leak"), (0.2, 0.3, "part"), (0.2, 0.0, "open")]
)
def test_a_cheap_reading_that_leaks_is_no_silence_of_the_wire(high: float, reid_low: float, expected: Any) -> None:
    """A silent probe of an attribute does not hide that ridge re-identifies victims of a cut that nothing else read."""
    probe = [replace(score("auc", 0.5, 0.2, "age"), chance=0.5)]
    silent = Board("cut-2", "plaintext", "gateway", "attributes", "age", tuple(probe))
    read = CutReading(2, 40, 20, "ridge", 0.02, 0.01, high, 0.1, 0.5, reid_low, 0.7, 0.05)
    alone, together = judged([silent], None, None), judged([silent], None, read)
    assert alone is not None and alone.silent and together is not None
    assert together.outcome == expected
    # The same readers off the wire, on at least as many pairs, count instead.
    own = [score("mse", 0.1, 0.005), replace(score("mse", 0.1, 0.005), name="mean", role="baseline")]
    wire = judged([Board("cut-2", "plaintext", "gateway", "linear", "input", tuple(own))], None, read)
    assert wire is not None and wire.silent


def test_what_was_skipped_is_named_with_its_reason() -> None:
    subject = replace(
        examine(Request(MODEL, "digits", attributes=("slant",), cuts=(1,), budget=None)),
        left_out={2: "no time", 3: "no time", 4: "no time"},
    )
    audited = Audited(subject, Path(), skipped={1: {"inversion": "no memory", "V-information": "no time was left"}})
    said = remarks(audited, [])
    assert said == [
        "skipped inversion at cut 1: no memory",
        "skipped V-information at cut 1: no time was left",
        "skipped cuts 2 to 4: not served: no time",
    ]
    late = replace(audited, subject=replace(subject, request=replace(subject.request, budget=60.0)), seconds=61.4)
    assert (
        remarks(late, [])[-1] == "time: 61 s of a budget of 60 s, longer than its budget: give more time or fewer cuts"
    )


def test_the_terminal_table_stays_within_80_columns() -> None:
    long = replace(row(31, 0.01, 0.95), block="features_stage4_unit1_convolution_and_normalisation_block_final")
    named = replace(score("reid", 1.0), chance=0.01)
    assert long.reconstruction is not None
    wide = replace(long, reconstruction=replace(long.reconstruction, by="inverse-network", reid=named))
    output = io.StringIO()
    Console(file=output, width=80).print(terminal_table([wide, row(2, 0.08, 0.6)], "shape"))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    starts = {line.index(word) for line in lines for word in ("MSE", "AUC", "100.0") if word in line}
    assert len(starts) == 1, "each column begins at one place"
    assert all(line.count("[") == line.count("]") for line in lines), "no interval is folded"


def test_a_mistake_on_the_command_line_is_one_line(tmp_path: Path, wireleak: Any) -> None:
    done = wireleak("audit", MODEL, "--data", "digits", "--cuts", "7", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "--cuts: the network cannot be cut at 7" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_subjects_name_their_blocks() -> None:
    subject = examine(Request(MODEL, "digits"))
    assert isinstance(subject, Subject) and [subject.block(cut) for cut in subject.network.cuts][-1] == "stages_2"
