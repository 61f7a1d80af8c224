"""Copy the figures of finished runs into the CSV files under results/, and fill the tables of results.md.

`python docs/make_results.py RUN...` copies runs; without a run it only fills the pages from the files. A new study also
needs markers in results.md and a table in results/headlines.toml.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import headlines

from wireleak.common.measures import PERCENT, quantity
from wireleak.lab.report import layer_quantities, localised
from wireleak.lab.report.boards import SeedMean, boards, summarise
from wireleak.lab.report.charts import style
from wireleak.lab.report.defences import NONE, Comparison, Spread, compare_defences
from wireleak.lab.report.figures import Drawing, defence_drawing, feature_drawing, rounds_drawing
from wireleak.lab.report.findings import titles
from wireleak.lab.report.gains import gains
from wireleak.lab.report.published import published_scores
from wireleak.lab.report.ranked import roc_drawings
from wireleak.lab.report.training_page import TrainingPage, training_page
from wireleak.lab.run.results import Results, read_results
from wireleak.lab.study.library import study_files

SCORES = ("variant", "target", "attack", "role", "name", "measure", "value", "low", "high", "unit", "seeds")
SLIGHT = 0.02
PER_MILLE = 1e-3
Line = Sequence[object]


def main(runs: Iterable[Path]) -> None:
    """Copy the runs' figures and fill the pages."""
    for run in runs:
        carry(run)
    headlines.main()


def carry(run: Path) -> None:
    """Replace the figures of a run's study in the files.

    Raises
    ------
    ValueError
        The study does not come with wireleak, so these files do not hold it.
    """
    results = read_results(run)
    known = study_files()
    if results.study not in known:
        raise ValueError(
            f"{run}: the study {results.study!r} does not come with wireleak; name the run of a study that does"
        )
    file = f"{known[results.study].parent.name}/{results.study}.csv"
    path = headlines.RESULTS / file
    path.parent.mkdir(exist_ok=True)
    compared, page = compare_defences(results), training_page(results)
    charts = {one.target: defence_drawing(one) for one in compared}
    has_table = results.study in headlines.declared()
    if has_table:
        write(path, SCORES, [*scores(results), *differences(results)])
        charts |= dict(by_round(page, titles(results))) | dict(low_rates(results))
    if compared:
        # The scores of a study with a table already have the study's name.
        write(path.with_stem(f"{path.stem}-settings") if has_table else path, *defences(compared))
    for name, drawing in charts.items():
        style.save((drawing.paper or drawing.draw)(), path.with_name(f"{results.study}-{name}.svg"), drawing.said)
    if maps := page.localised:
        write(path.with_name(f"{results.study}-layers.csv"), *layers(maps))
        write(path.with_name(f"{results.study}-answers.csv"), *answers(maps))
    replace("published.csv", results.study, list(published(results)))
    replace("training.csv", results.study, list(training(results)))
    replace("index.csv", results.study, [origin(results, file)])


def write(path: Path, head: Iterable[str], rows: Iterable[Line]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows([head, *rows])


def replace(name: str, study: str, new: list[Line]) -> None:
    """Replace a study's rows in a file of all studies; rows of a new study go last."""
    path = headlines.RESULTS / name
    with path.open(newline="") as lines:
        head, *rows = csv.reader(lines)
    before = [row[0] == study for row in rows]
    place = before.index(True) if any(before) else len(rows)
    kept = [row for row in rows if row[0] != study]
    write(path, head, [*kept[:place], *new, *kept[place:]])


def origin(results: Results, file: str) -> Line:
    """Return a study's row of the index: the origin of its figures."""
    machine = f"{results.machine.cpus} cores, {results.machine.memory / 2**30:.0f} GiB"
    versions = ", ".join(f"{name} {results.versions[name]}" for name in ("python", "flwr", "torch", "grpcio"))
    seeds = max(Counter(task.variant for task in results.tasks if task.measure == "accuracy").values(), default=0)
    run_columns = (results.study, file, results.command, seeds, results.commit, results.created[:10])
    return *run_columns, f"{results.seconds:.0f}", machine, versions


def by_round(page: TrainingPage, names: Mapping[str, str]) -> Iterator[tuple[str, Drawing]]:
    """Yield the charts of a long training: scores by round, and features before and after."""
    attacks = Counter(one.target for one in page.windows)
    for one in page.windows:
        attack = f"{one.attack}-" if attacks[one.target] > 1 else ""
        yield f"{attack}{one.target}-by-round", rounds_drawing(one, names)
    for part in page.features:
        if len(part.panels) == len(("before", "after")):
            yield from ((f"features-{one.variant}", feature_drawing(one)) for one in part.panels)


def low_rates(results: Results) -> Iterator[tuple[str, Drawing]]:
    """Yield the ROC curves on logarithmic axes, if they can show a false-positive rate of 0.1 %."""
    if any(curve.least <= PER_MILLE for curve in results.rankings.curves):
        drawings = [drawing for _, drawing in roc_drawings(results, boards(results.rows), titles(results))]
        yield from ((one.name, one) for one in drawings if one.name.endswith("-log"))


def scores(results: Results) -> Iterator[Line]:
    """Yield the scores over seeds; a row that all attacks on a target share is written once, without an attack."""
    names = titles(results)
    summaries = [score for score in summarise(results.rows) if not math.isnan(score.value)]
    attacks: dict[tuple[str, str], set[str]] = {}
    for score in summaries:
        attacks.setdefault((score.variant, score.target), set()).add(score.attack)
    same = Counter(_compared(score) for score in summaries)
    written = set()
    for score in summaries:
        key = _compared(score)
        everywhere = len(attacks[score.variant, score.target])
        shared = score.role != "attack" and everywhere > 1 and same[key] == everywhere
        if shared and key in written:
            continue
        written.add(key)
        values = (number(score.measure, value) for value in (score.value, score.low, score.high))
        place = (names[score.variant], score.target, "" if shared else score.attack, score.role, score.name)
        yield *place, quantity(score.measure).label, *values, unit(score.measure), score.seeds


def differences(results: Results) -> Iterator[Line]:
    """Yield each variant's scores less those of the variant that it is compared with."""
    names = titles(results)
    for one in gains(results):
        values = (number(one.measure, value) for value in (one.spread.value, one.spread.low, one.spread.high))
        place = (names[one.variant], one.target, one.attack, "difference", names[one.against])
        yield *place, quantity(one.measure).label, *values, unit(one.measure), one.seeds


def _compared(score: SeedMean) -> tuple[object, ...]:
    how = (score.variant, score.target, score.role, score.name, score.measure)
    return *how, *(number(score.measure, value) for value in (score.value, score.low, score.high))


def number(name: str, value: float) -> str:
    """Return a value as text that programs read, with the measure's decimals."""
    return "" if math.isnan(value) else quantity(name).write(value).removesuffix(PERCENT).replace("−", "-")


def unit(name: str) -> str:
    """Return the unit of a score in the files."""
    return "%" if quantity(name).percent else ""


def training(results: Results) -> Iterator[Line]:
    """Yield each seed's measures of training."""
    places: Counter[tuple[str, str]] = Counter()
    for task in results.tasks:
        places[task.variant, task.measure] += 1
        how = (results.study, task.variant, quantity(task.measure).label.lower(), places[task.variant, task.measure])
        yield *how, number(task.measure, task.value), unit(task.measure)


def published(results: Results) -> Iterator[Line]:
    """Yield published figures, each with ours."""
    for figure in published_scores(results, titles(results)):
        ours, _, interval = figure.ours.partition(" [")
        low, _, high = interval.rstrip("]").partition(", ")
        mine, theirs = (text.replace(PERCENT, " %").replace("−", "-").partition(" ") for text in (ours, figure.theirs))
        attack = "" if figure.attack == "the main task" else figure.attack
        yield (
            results.study,
            figure.variant,
            attack,
            figure.measure,
            mine[0],
            low,
            high,
            mine[2],
            theirs[0],
            theirs[2],
            figure.source,
        )


def defences(compared: Iterable[Comparison]) -> tuple[Sequence[str], list[Line]]:
    """Return the head and the rows of a comparison of defences: one setting against the attackers of one target."""
    spreads = ("accuracy", "lost", "leak", "removed")
    head = ["target", "number", "setting", "front"]
    for name in spreads:
        head += ["leak_measure"] if name == "leak" else []
        head += [name, f"{name}_low", f"{name}_high"]
    head += ["lowers_leak", "helps_for_2_points", "verdict", "states_bound", "strongest", "own_adversary"]
    head += ["cpu_seconds_a_round", "bytes_an_inference", "guarantee"]
    rows: list[Line] = []
    for comparison in compared:
        for place, point in enumerate(comparison.points, 1):
            bare = point.defence == NONE
            lost, removed = ((), ()) if bare else (spread(point.lost), spread(point.gained))
            lowers = not bare and point.helps
            verdict = comparison.written(comparison.outcome(point))
            row = [
                comparison.target,
                place,
                point.title,
                yes(point.front),
                *spread(point.accuracy),
                *(lost or ("",) * 3),
            ]
            row += [
                comparison.leak,
                *spread(point.leak),
                *(removed or ("",) * 3),
                yes(lowers),
                yes(lowers and point.lost.value <= SLIGHT),
                verdict,
                yes(not bare and bool(point.guarantee)),
                point.attacker,
                point.own,
            ]
            row += [f"{point.device_seconds:.2f}", f"{point.bytes:.0f}", point.holds]
            rows.append(row)
    return head, rows


def spread(measured: Spread) -> tuple[str, ...]:
    """Return a mean and the ends of its interval as text."""
    return tuple(
        "" if math.isnan(value) else f"{value:z.3f}" for value in (measured.value, measured.low, measured.high)
    )


def yes(flag: bool) -> str:
    """Return a flag as text."""
    return "yes" if flag else "no"


def layers(maps: Iterable[localised.Map]) -> tuple[Sequence[str], list[Line]]:
    """Return the head and the rows on leakage by each layer of an update: means over seeds, less their nulls."""
    maps = list(maps)
    quantities = [q for q in layer_quantities.QUANTITIES if any(q in shown.quantities for shown in maps)]
    head = ["variant", "layer", "weights", *(f"{column.heading} {column.unit}" for column in quantities), "seeds"]
    rows: list[Line] = []
    for shown in maps:
        for layer in shown.layers:
            means = (q.write(layer.figures[q.name].mean).replace("−", "-") for q in quantities)
            rows.append([shown.variant, layer.title, layer.parameters, *means, shown.seeds])
    return head, rows


def answers(maps: Iterable[localised.Map]) -> tuple[Sequence[str], list[Line]]:
    """Return the head and the rows on the layer that reveals most, and whether this agrees with the paper."""
    maps = list(maps)
    by = "input_db" if any(shown.original is layer_quantities.INVERTED for shown in maps) else "input_r2"
    margin = ["margin", "margin_low", "margin_high", "as_published"]
    head = ["variant", "network", "data", "input_layer", by, *(f"input_{name}" for name in margin)]
    head += ["property", "property_layer", "property_bits", *(f"property_{name}" for name in margin)]
    head += ["correlation", "seeds"]
    rows: list[Line] = []
    for shown in maps:
        said = localised.answer(shown)
        row: list[object] = [shown.variant, shown.network, shown.dataset]
        row += [*most(shown, shown.original, said.original), shown.target]
        row += most(shown, layer_quantities.LATENT, said.latent)
        rows.append([*row, "" if math.isnan(said.correlation) else f"{said.correlation:.2f}", shown.seeds])
    return head, rows


def most(shown: localised.Map, column: layer_quantities.LayerQuantity, claim: localised.Claim) -> list[str]:
    """Return the layer with most of a quantity and its value, or blanks if all are null, and the claim's verdict."""
    margin = spread(claim.margin)
    if not any(layer.beyond.get(column.name) for layer in shown.layers):
        return ["", "", *margin, claim.verdict]
    layer = shown.layers[localised.highest(shown.means(column))]
    value = column.write(layer.figures[column.name].mean).replace("−", "-")
    return [layer.title, value, *margin, claim.verdict]


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]))
