"""The command `wireleak studies`: a list of questions, or one study in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.table import Table

from wireleak.commands.base import RootOption, app, console, one_line_errors
from wireleak.common.words import counted

if TYPE_CHECKING:
    from wireleak.lab.study.schema import Study
    from wireleak.lab.study.tables import AttackUse, Variant

# Folders of the library, and the question that its studies share.
GROUPS = {
    "activations": "What do activations on the wire reveal?",
    "training": "What do gradients and a malicious server reveal in split training?",
    "updates": "What do updates of federated training reveal?",
    "membership": "Can it be told what a model was trained on?",
    "layers": "Which layer of an update reveals the input, and which a property?",
    "devices": "Does a small device leak what a PC leaks?",
    "defences": "Which defences help, and do their guarantees hold?",
}
LINKS = {"plaintext": "", "tls": "TLS", "mtls": "mutual TLS"}


@app.command(epilog="Example: wireleak studies digits")
def studies(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="study or .toml file to show in full (default: list all)"),
    ] = None,
    root: RootOption = None,
) -> None:
    """List the studies that come with wireleak, or show one in full."""
    with one_line_errors():
        if name is None:
            show_list(root)
        else:
            show_study(name, root)


def show_list(root: Path | None) -> None:
    """Print the name and question of each study, grouped by the kind of leak."""
    from wireleak.lab.study.library import load_study, study_files

    files = study_files()
    width = max(map(len, files))
    present = _present(root)
    absent = False
    for group, title in GROUPS.items():
        console.print(f"[bold]{title}[/]", highlight=False)
        for name in (name for name, path in files.items() if path.parent.name == group):
            study, _ = load_study(name)
            missing = not present[study.data.name]
            absent = absent or missing
            mark = "*" if missing else " "
            console.print(f"{mark} {name:{width}}  {question(study)}", highlight=False, markup=False, soft_wrap=True)
        console.print()
    if absent:
        console.print("* needs data that are not on this machine; `wireleak studies NAME` names them.", highlight=False)
    console.print("`wireleak studies NAME` shows one study in full.", highlight=False)


def question(study: Study) -> str:
    """Return the first sentence of a study's description."""
    head, mark, _ = study.description.partition("?")
    return head + mark


def show_study(name: str, root: Path | None) -> None:
    """Print one study in full: its data, parties, attacker, variants and attacks.

    Raises
    ------
    StudyError
        Unknown study, or a file that does not validate.
    """
    from wireleak.lab.study.library import load_study

    study, path = load_study(name)
    console.print(f"[bold]{study.name}[/]: {study.description}\n", highlight=False)
    facts = _grid()
    for label, text in _facts(study, path, root):
        facts.add_row(label, text)
    console.print(facts)
    _table("variants", (_variant(study, variant) for variant in study.variants))
    _table("attacks", (_attack(study, attack) for attack in study.attacks))
    console.print()
    for line in [*_resolved(study, root), f"`wireleak power {name}` says which other leaks this study can show."]:
        console.print(line, highlight=False, markup=False)


def _resolved(study: Study, root: Path | None) -> list[str]:
    """Say which small leaks the study shows, where its data are on this machine."""
    from wireleak.lab.data import describe
    from wireleak.lab.power.design import designs
    from wireleak.lab.power.statement import statements

    (about,) = describe(study.data.name, root)
    return statements(designs(study, root)) if about.where else []


def _facts(study: Study, path: Path, root: Path | None) -> Iterator[tuple[str, str]]:
    from wireleak.lab.data import describe

    data, system = study.data, study.system
    (about,) = describe(data.name, root)
    yield "file", str(path)
    yield "data", f"{data.name}: " + ("on this machine" if about.where else f"not on this machine; {about.obtain}")
    yield (
        "examples",
        f"{data.train} to train {counted(data.clients, 'client')}, {data.evaluation} for evaluation, "
        f"{data.attacker} of the attacker's own, {data.victims} from the victims",
    )
    yield "network", f"{study.model.name}, {system.mode} training, {counted(system.rounds, 'round')}"
    threat = study.threat
    yield "attacker", f"at {threat.vantage}; sees {_list(threat.sees)}; knows {_list(threat.knows)}"
    yield "seeds", _list(map(str, study.seeds))


def _variant(study: Study, variant: Variant) -> tuple[str, str]:
    parts = [f"cut {variant.cut}" if study.plan_of(variant).mode == "split" else "", LINKS[variant.link]]
    if variant.title:
        parts.insert(0, variant.title)
    if variant.seeds is not None:
        parts.append(f"seeds {_list(map(str, variant.seeds))}")
    return variant.name, ", ".join(part for part in parts if part)


def _attack(study: Study, attack: AttackUse) -> tuple[str, str]:
    parts = [f"on {_list(attack.targets)}", f"at {attack.vantage or study.threat.vantage}"]
    if attack.label:
        parts.insert(0, attack.name)
    if attack.variants:
        parts.append(f"in {_list(attack.variants)}")
    return attack.shown, "; ".join(parts)


def _table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    console.print(f"\n[bold]{title}[/]")
    table = _grid()
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def _grid() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _list(words: Iterable[str]) -> str:
    return ", ".join(words) or "nothing"


def _present(root: Path | None) -> dict[str, bool]:
    from wireleak.lab.data import describe

    return {dataset.name: dataset.where is not None for dataset in describe(root=root)}
