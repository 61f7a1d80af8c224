"""Print a run's results as Markdown for docs/results.md: what was measured, never typed."""

import sys
from pathlib import Path

from wireleak.lab.report.boards import Board, Score, boards
from wireleak.lab.report.charts import comparison_figures, localise_figures
from wireleak.lab.report.defences import NONE, Comparison, compare_defences
from wireleak.lab.report.findings import titles
from wireleak.lab.report.published import beside
from wireleak.lab.report.training_page import training_page
from wireleak.lab.report.vocabulary import measure
from wireleak.lab.run.results import Results, read_results

# Baselines and readers that are made with the attack, so that each attack has its own.
OWN = ("shuffled", "permuted", "untrained", "in-process")
HEADLINES = {
    "reconstruction": ("mse", "ssim", "psnr", "reid"),
    "text": ("words-found", "words"),
    "attribute": ("auc", "balanced-accuracy"),
}


def main(folder: Path) -> None:
    """Print one run."""
    results = read_results(folder)
    machine = f"{results.machine.cpus} cores, {results.machine.memory / 2**30:.0f} GiB"
    print(f"Command `{results.command}`, commit `{results.commit}`, {results.created[:10]}, {machine}, ", end="")
    versions = ", ".join(f"{name} {results.versions[name]}" for name in ("python", "flwr", "torch", "grpcio"))
    print(f"{results.seconds:.0f} s; {versions}.\n")
    compared = compare_defences(results)
    for one in compared:
        print(defences(one, results.study), end="\n\n")
    if compared:
        return
    for part in (*(table(results, kind) for kind in HEADLINES), others(results)):
        if part:
            print(part, end="\n\n")
    if results.published:
        print(published(results), end="\n\n")
    told: dict[str, dict[str, list[str]]] = {}
    for task in results.tasks:
        kind = measure(task.measure)
        told.setdefault(kind.label.lower(), {}).setdefault(task.variant, []).append(kind.write(task.value))
    for what, values in told.items():
        by_seed = "; ".join(f"{name} {', '.join(each)}" for name, each in values.items())
        print(f"Of the training, {what} by seed: {by_seed}.\n")
    for one in training_page(results).localised:
        print(f"{localise_figures.answer(one).text}\n\n{layers(one)}\n")
    for note in results.notes:
        print(f"{note}.\n")
    if any(variant.pad is not None for variant in results.variants):
        print(f"{sent(results)}\n")


def layers(one: localise_figures.Map) -> str:
    """The heat map's numbers, means over seeds less their nulls; the strongest of each column in bold."""
    found = localise_figures.QUANTITIES
    lines = [
        f"| {one.variant}, {one.seeds} seed(s) | weights | " + " | ".join(f"{q.heading} {q.unit}" for q in found) + " |"
    ]
    lines.append("|" + "---|" * (len(found) + 2))
    most = {q.name: max(one.means(q)) for q in found}
    for layer in one.layers:
        means = [(layer.figures[q.name].mean, q) for q in found]
        cells = [f"**{q.write(mean)}**" if mean == most[q.name] else q.write(mean) for mean, q in means]
        lines.append("| " + " | ".join([layer.title, f"{layer.parameters:,}", *cells]) + " |")
    return "\n".join(lines)


def sent(results: Results) -> str:
    """What one link of each variant carried, with all that its protocols add."""
    names = titles(results)
    each: dict[str, list[int]] = {}
    for wire in results.wires:
        if wire.link_name == "serve-victim":
            each.setdefault(wire.variant, []).append(wire.bytes_up + wire.bytes_down)
    told = "; ".join(f"{names[name]} {sum(found) / len(found) / 1e3:,.0f}" for name, found in each.items())
    return f"The victims' link to the head, both ways, kB, mean over seeds: {told}."


def table(results: Results, kind: str) -> str:
    """One table of a kind of `HEADLINES`, empty where nothing is of it: means over seeds.

    It has a row an attack, baseline, reader or bound. A row that does not depend on the attack is written once for a
    variant and target, after the attacks.
    """
    names = titles(results)
    wanted = HEADLINES[kind]
    every = [board for board in boards(results.rows) if board.target.startswith("input") is (kind != "attribute")]
    every = [board for board in every if any(board.get(name) for name in wanted)]
    if not every:
        return ""
    head = ["variant", "guessed", "by", *(measure(name).label for name in wanted), "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    places = dict.fromkeys((board.variant, board.target) for board in every)
    for place in places:
        group = [board for board in every if (board.variant, board.target) == place]
        shared: dict[str, str] = {}
        for board in group:
            for other in board.names:
                if not any(board.get(name, other) for name in wanted):
                    continue
                line = row(board, names[board.variant], other, wanted)
                if other in ("", *OWN) or shared.setdefault(other, line) != line:
                    lines.append(row(board, names[board.variant], other, wanted, say=len(group) > 1))
        lines += shared.values()
    return "\n".join(lines)


def defences(found: Comparison, study: str) -> str:
    """A comparison of defences: the chart, as a file beside this one, the claims, and a row a setting."""
    picture = Path(__file__).with_name(f"{study}-{found.target}.svg")
    picture.write_text(comparison_figures.chart_file(found))
    lines = [f"### {found.target}", "", *(f"{line}\n" for line in comparison_figures.claims(found))]
    lines += [f"![accuracy against what the strongest attacker learns of {found.target}]({picture.name})", ""]
    head = ["", "setting", "accuracy", "lost", found.leak, "taken off", "strongest", "its own adversary"]
    head += ["CPU s a round", "bytes an inference", "holds for every attacker"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    written = comparison_figures.written
    for number, one in enumerate(found.points, 1):
        bare = one.defence == NONE
        cells = [str(number), f"**{one.title}**" if one.front else one.title, written(one.accuracy)]
        cells += ["" if bare else written(one.lost), written(one.leak), "" if bare else written(one.gained)]
        cells += [one.attacker, one.own or "–", f"{one.device_seconds:.2f}", f"{one.bytes:,.0f}"]
        lines.append("| " + " | ".join([*cells, one.holds]) + " |")
    return "\n".join(lines)


def published(results: Results) -> str:
    """Published figures beside ours."""
    lines = ["| variant | by | measure | here | published | where |", "|---|---|---|---|---|---|"]
    for one in beside(results, titles(results)):
        by = one.attack if one.attack == "the main task" else f"**{one.attack}**"
        lines.append("| " + " | ".join([one.variant, by, one.measure, one.ours, one.theirs, one.source]) + " |")
    return "\n".join(lines)


def others(results: Results) -> str:
    """What attacks told beside the headlines: training errors, bounds, privacy that was proved or audited."""
    wanted = {name for names in HEADLINES.values() for name in names} | {"accuracy", "balanced-accuracy"}
    names = titles(results)
    found = [(board, score) for board in boards(results.rows) for score in board.scores if score.measure not in wanted]
    if not found:
        return ""
    lines = ["| variant | guessed | by | measure | value | seeds |", "|---|---|---|---|---|---|"]
    for board, score in found:
        by = f"{board.attack}: {called(score)}" if score.name else f"**{board.attack}**"
        what = [names[board.variant], board.target, by, measure(score.measure).label, cell(score), str(score.seeds)]
        lines.append("| " + " | ".join(what) + " |")
    return "\n".join(lines)


def row(board: Board, title: str, other: str, wanted: tuple[str, ...], *, say: bool = False) -> str:
    """Write the line of the row called `other`; `say` adds the attack that it belongs to."""
    scores = [board.get(name, other) for name in wanted]
    seeds = max(score.seeds for score in scores if score)
    name = next(called(score) for score in scores if score)
    by = (f"{board.attack}: {name}" if say else name) if other else f"**{board.attack}**"
    return "| " + " | ".join([title, board.target, by, *map(cell, scores), str(seeds)]) + " |"


def called(score: Score) -> str:
    """Name a baseline, reader, bound or quantile; a bound is called one."""
    return f"bound ({score.name})" if score.role == "bound" else score.name


def cell(score: Score | None) -> str:
    """A value with its interval."""
    return f"{score.written} {score.interval}" if score else "–"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
