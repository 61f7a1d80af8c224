"""Print a run's results as Markdown for docs/results.md: what was measured, never typed."""

import sys
from pathlib import Path

from wireleak.lab.findings import titles
from wireleak.lab.results import Results, read_results
from wireleak.lab.scores import Board, Score, boards
from wireleak.lab.vocabulary import control_order, measure

HEADLINES = {"reconstruction": ("mse", "ssim", "psnr", "reid"), "attribute": ("auc", "balanced_accuracy")}


def main(folder: Path) -> None:
    """Print one run."""
    results = read_results(folder)
    machine = f"{results.machine.cpus} cores, {results.machine.memory / 2**30:.0f} GiB"
    print(f"Command `{results.command}`, commit `{results.commit}`, {results.created[:10]}, {machine}, ", end="")
    versions = ", ".join(f"{name} {results.versions[name]}" for name in ("python", "flwr", "torch", "grpcio"))
    print(f"{results.seconds:.0f} s; {versions}.\n")
    print(table(results, reconstruction=True), end="\n\n")
    print(table(results, reconstruction=False), end="\n\n")
    accuracy = {}
    for task in results.tasks:
        accuracy.setdefault(task.variant, []).append(f"{task.value:.3f}")
    print(
        "Task accuracy by seed: " + "; ".join(f"{name} {', '.join(values)}" for name, values in accuracy.items()) + "."
    )


def table(results: Results, *, reconstruction: bool) -> str:
    """One table: a row an attack or control, means over seeds with 95 % intervals."""
    names = titles(results)
    every = [board for board in boards(results.rows) if (board.target == "input") is reconstruction]
    wanted = HEADLINES["reconstruction" if reconstruction else "attribute"]
    head = ["variant", "guessed", "by", *(measure(name).label for name in wanted), "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for board in every:
        for control in sorted({score.control for score in board.scores}, key=control_order):
            if any(board.get(name, control) for name in wanted):
                lines.append(row(board, names[board.variant], control, wanted))
    return "\n".join(lines)


def row(board: Board, title: str, control: str, wanted: tuple[str, ...]) -> str:
    """One line."""
    scores = [board.get(name, control) for name in wanted]
    seeds = max(score.seeds for score in scores if score)
    by = control or f"**{board.attack}**"
    return "| " + " | ".join([title, board.target, by, *map(cell, scores), str(seeds)]) + " |"


def cell(score: Score | None) -> str:
    """A value with its interval."""
    return f"{score.written} {score.interval}" if score else "–"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
