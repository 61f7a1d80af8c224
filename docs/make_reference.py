"""Write docs/reference/ from the commands, schemas and registries (`make reference`); `--check` only compares."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import typer
from pydantic import BaseModel, TypeAdapter
from typer.models import ArgumentInfo

from wireleak.common.measures import Quantity

FOLDER = Path(__file__).parent / "reference"
HEAD = "<!-- Written by docs/make_reference.py; run `make reference` after a change. -->\n"
OURS = "wireleak"
# The tables of a study, in the order of a file: each table's heading in TOML, and its part of the schema.
STUDY_TABLES = (
    ("", None),
    ("[data]", "Data"),
    ("[data.stream]", "Stream"),
    ("[model]", "Model"),
    ("[system]", "TrainingPlan"),
    ("[system.privacy]", "PrivacyConfig"),
    ("[serve]", "Serve"),
    ("[[devices]]", "Device"),
    ("[tap]", "Tap"),
    ("[threat]", "Threat"),
    ("[[variants]]", "Variant"),
    ("[[sweeps]]", "Sweep"),
    ("[[attacks]]", "AttackUse"),
    ("[[published]]", "Published"),
    ("A plug-in", "Plugin"),
    ("A malicious participant", "Participant"),
)
CONFIGS = (
    ("server.config:ServerConfig", "`python -m server head`, and Flower's ServerApp `server.app:app`"),
    ("server.web.config:GatewayConfig", "`python -m server gateway`"),
    ("client.config:ClientConfig", "Flower's ClientApp `client.app:app`"),
    ("client.config:DeviceConfig", "`python -m client serve`"),
    ("adversary.participant.config:ParticipantConfig", "Flower's ClientApp `adversary.participant.app:app`"),
    ("adversary.hijack.config:HijackConfig", "`python -m adversary hijack`"),
    ("adversary.initial.config:InitialConfig", "`python -m adversary initial`"),
    ("adversary.live.config:LiveConfig", "`python -m adversary live`"),
    ("adversary.tap.sources.relay:RelayConfig", "`python -m adversary relay`"),
    ("adversary.attacks.harness.config:AttackConfig", "`python -m adversary attack`"),
)
PROGRAMS = (
    ("wireleak", "wireleak.cli"),
    *((f"python -m {party}", f"{party}.__main__") for party in ("server", "client", "adversary")),
)


def commands() -> Iterator[str]:
    """Describe every command with its arguments and options."""
    yield "# Commands\n\n`wireleak` is the command for people. It starts the other programs, each a process of its own."
    for program, module in PROGRAMS:
        yield f"\n## {program}\n"
        group: Any = typer.main.get_command(import_module(module).app)
        for name, command in group.commands.items():
            for words, one in _leaves(f"{program} {name}", command):
                yield from _command(words, one)
    yield from _device()


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command, or the commands of a group, with their full names."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, inner in command.commands.items():
        yield from _leaves(f"{name} {word}", inner)


def _device() -> Iterator[str]:
    """Describe the thin device, whose parser is argparse's, because it needs no other package."""
    parser = import_module("client.device.__main__").parser()
    yield f"## {parser.prog}\n\n{parser.description} Also `python -m client.device`.\n"
    yield f"```console\n$ {parser.format_usage().removeprefix('usage: ').strip()}\n```\n"
    yield f"For example: `{parser.epilog.removeprefix('Example: ')}`\n"
    rows = []
    for action in parser._actions[1:]:  # the first is --help
        default = _default(action.default or None) if action.option_strings else "required"
        meaning = _sentence(action.help.removesuffix(" (default: %(default)s)"))
        rows.append((f"`{', '.join(action.option_strings) or action.metavar}`", default, meaning))
    yield from _table(("argument or option", "default", "meaning"), rows)


def _command(name: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    text, _, example = (command.help or "").partition("Example: ")
    yield f"### {name}\n\n{' '.join(text.split())}\n"
    yield f"```console\n$ {' '.join([name, *command.collect_usage_pieces(context)])}\n```\n"
    example = (command.epilog or "").removeprefix("Example: ") or example
    if example:
        yield f"For example: `{' '.join(example.split())}`\n"
    hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    rows = []
    for parameter in command.params:
        described = [hint for hint in getattr(hints.get(parameter.name), "__metadata__", ()) if hasattr(hint, "help")]
        is_argument = any(isinstance(hint, ArgumentInfo) for hint in described)
        written = (
            parameter.make_metavar(context) if is_argument else ", ".join(parameter.opts + parameter.secondary_opts)
        )
        default = "required" if parameter.required else _default(_plain(parameter.default))
        rows.append((f"`{written}`", default, _sentence(described[0].help or "" if described else "")))
    yield from _table(("argument or option", "default", "meaning"), rows)


def study() -> Iterator[str]:
    """Describe every key of a study's TOML file."""
    from wireleak.lab.study.json_schema import study_schema

    schema = study_schema()
    yield (
        "# Keys of a study\n\nA study is one TOML file. `wireleak schema study > study.schema.json` writes its JSON "
        "schema; with the line\n`#:schema ./study.schema.json` at its top, an editor completes and checks the file.\n"
    )
    for heading, piece in STUDY_TABLES:
        described = schema if piece is None else schema["$defs"][piece]
        yield f"## {f'`{heading}`' if heading.startswith('[') else heading or 'Top level'}\n"
        yield _sentence(described.get("description", "")) + "\n"
        if piece == "Sweep":
            yield "All keys of a variant, and:\n"
            own = ("name", "values")
            described = described | {"properties": {name: described["properties"][name] for name in own}}
        yield from _fields(described, schema)


def configs() -> Iterator[str]:
    """Describe every config of a process."""
    yield (
        "# Configs of the processes\n\n`wireleak run` writes one JSON file for each process; the run's folder holds "
        "them all. Write your own for a\ndeployment with Flower. An unknown key is a mistake. Paths are absolute.\n"
    )
    pieces: dict[str, Any] = {}
    for place, user in CONFIGS:
        schema = TypeAdapter(_named(place)).json_schema()
        pieces |= schema.get("$defs", {})
        yield f"## {schema['title']}\n\n{_sentence(schema.get('description', ''))} For {user}.\n"
        yield from _fields(schema, schema)
    yield "## Shared tables\n"
    for name, piece in sorted(pieces.items()):
        yield f"### {name}\n\n{_sentence(piece.get('description', ''))}\n"
        yield from _fields(piece, {"$defs": pieces})


def attacks() -> Iterator[str]:
    """Describe every attack with its threat model and options."""
    from adversary.attacks.harness.registry import ATTACKS

    yield (
        "# Attacks\n\nAn attack runs only where the study's `[threat]` grants its threat model. Options go into the "
        "attack's table:\n`options = { epochs = 20 }`.\n"
    )
    for name, attack in _ours(ATTACKS):
        threat = attack.threat
        yield f"## {name}\n\n{_doc(attack)}\n"
        yield f"- guesses: {attack.target.name}\n- vantage: {_listed(threat.vantage)}"
        yield f"- sees: {_listed(threat.sees)}\n- knows: {_listed(threat.knows) or 'nothing'}\n"
        yield from _options(attack.options)


def transforms() -> Iterator[str]:
    """Describe every transform of activations, and the plug-ins of federated training."""
    from adversary.initial.models import INITIAL_MODELS
    from adversary.participant.registry import PARTICIPANTS
    from client.mods import MODS
    from client.transforms.registry import TRANSFORMS
    from server.strategies import STRATEGIES

    yield (
        "# Transforms, strategies, mods, participants\n\nA transform defends activations; a strategy joins updates; "
        "a mod changes an update before it leaves the client.\nParticipants and initial models are malicious.\n"
    )
    yield '## Transforms\n\nIn a variant: `transforms = [{ name = "noise", options = { sigma = 1.0 } }]`.\n'
    for name, transform in _ours(TRANSFORMS):
        yield f"### {name}\n\n{_doc(transform)}\n"
        yield f"Changes: {_sentence(transform.changes.does)}\n" if hasattr(transform.changes, "does") else ""
        yield from _options(transform.options)
    kinds = (
        ("Strategies", 'In `[system]`: `strategy = { name = "krum" }`.', STRATEGIES),
        ("Mods", 'In `[system]`: `mods = [{ name = "local-dp" }]`.', MODS),
        ("Malicious participants", 'In a variant: `participant = { name = "canary" }`.', PARTICIPANTS),
        ("Initial models", 'In a variant: `initial = { name = "imprint" }`.', INITIAL_MODELS),
    )
    for heading, use, registry in kinds:
        yield f"## {heading}\n\n{use}\n"
        summaries = {plugin.name: plugin.summary for plugin in registry.listed()}
        for name, plugin in _ours(registry):
            yield f"### {name}\n\n{summaries[name]}\n"
            yield from _options(getattr(plugin, "options", None))


def measures() -> Iterator[str]:
    """Describe every measure, and every reported quantity that scores no guess."""
    from wireleak.common.measures.quantities.reported import REPORTED
    from wireleak.common.measures.scores.measure import MEASURES

    yield "# Measures\n\nEach score has a confidence interval and is printed next to its baselines.\n"
    rows = [(f"`{name}`", measure.label, measure.applies_to, *_reading(measure)) for name, measure in _ours(MEASURES)]
    yield from _table(("measure", "label", "of guesses of", "more leakage is", "range", "meaning"), rows)
    yield "## Reported quantities\n\nThese do not score a guess: training, attacks and bounds report them.\n"
    reported = [(f"`{name}`", quantity.label, *_reading(quantity)) for name, quantity in sorted(REPORTED.items())]
    yield from _table(("quantity", "label", "more leakage is", "range", "meaning"), reported)


def _reading(quantity: Quantity) -> tuple[str, str, str]:
    ends = f"{quantity.low:g} to {quantity.high:g}".replace("nan", "…").replace("inf", "∞")
    return "higher" if quantity.higher_leaks else "lower", ends, _sentence(quantity.meaning)


def networks_and_data() -> Iterator[str]:
    """Describe every network and every data set."""
    from wireleak.common.models.networks import NETWORKS
    from wireleak.lab.data.registry import SOURCES

    yield "# Networks and data sets\n\n## Networks\n"
    yield "A network of your own is `MODULE:FACTORY` or `FILE.py:FACTORY`.\n"
    summaries = {network.name: network.summary for network in NETWORKS.listed()}
    yield from _table(("network", "description"), [(f"`{name}`", summaries[name]) for name, _ in _ours(NETWORKS)])
    yield "## Data sets\n"
    for name, source in _ours(SOURCES):
        options = list(inspect.signature(source.read).parameters.values())[1:]
        yield f"### {name}\n\n{_doc(source.read)}\n"
        yield f"- task: {source.task}\n- private attributes: {', '.join(source.attributes) or 'none'}"
        yield f"- licence: {source.licence}\n- how to get it: {source.obtain}"
        written = [
            f"`{option.name}`" + ("" if option.default is option.empty else f" ({option.default!r})")
            for option in options
        ]
        yield f"- options (default): {', '.join(written) or 'none'}\n"


def python() -> Iterator[str]:
    """Describe the public names of the package."""
    import wireleak

    yield (
        "# Python\n\n`import wireleak` provides these names. All else is private and may change between versions. Each "
        "name is imported at\nits first use. Names of `client` and `adversary` are for your own process, such as a "
        "plug-in's.\n\nPlug-ins also import targets from `wireleak.common.targets`, data sets from `wireleak.lab.data` "
        "and networks from\n`wireleak.common.models.networks`.\n"
    )
    names = [name for name in dir(wireleak) if not name.startswith("_")]
    for name in names:
        value = getattr(wireleak, name)
        written = f"{name}{inspect.signature(value)}" if inspect.isfunction(value) else f"class {name}"
        yield f"## {name}\n\n```python\n{written}\n```\n"
        yield f"{_doc(value)}\n"


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "commands": commands,
    "study": study,
    "configs": configs,
    "attacks": attacks,
    "transforms": transforms,
    "measures": measures,
    "networks-and-data": networks_and_data,
    "python": python,
}


def index() -> Iterator[str]:
    """Return the list of the pages."""
    yield "# Reference\n\nThese pages are generated from the code.\n"
    for name, page in PAGES.items():
        yield f"- [{name}]({name}.md): {_doc(page)}"


def pages() -> dict[str, str]:
    """Return the text of every page, by file name."""
    made: dict[str, Callable[[], Iterable[str]]] = {"README": index, **PAGES}
    return {f"{name}.md": HEAD + "\n".join(page()).strip() + "\n" for name, page in made.items()}


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _ours(registry: Any) -> Iterator[tuple[str, Any]]:
    """Keep only wireleak's own plug-ins; others may be installed where the pages are written."""
    items = registry.all()
    yield from ((plugin.name, items[plugin.name]) for plugin in registry.listed() if plugin.source == OURS)


def _doc(item: Any) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((inspect.getdoc(item) or "").partition("\n\n")[0].split())


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _options(kind: type[BaseModel] | None) -> Iterator[str]:
    schema = kind.model_json_schema() if kind is not None else {}
    yield from _fields(schema, schema) if schema.get("properties") else ["No options.\n"]


def _fields(piece: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    required, pieces = piece.get("required", ()), root.get("$defs", {})
    rows = [
        (
            f"`{name}`",
            _type(field),
            "required" if name in required else _default(field.get("default", {} if "object" in str(field) else "")),
            _sentence(field.get("description", "") or pieces.get(_piece(field), {}).get("description", "")),
        )
        for name, field in piece.get("properties", {}).items()
    ]
    yield from _table(("key", "type", "default", "meaning"), rows) if rows else ["No keys.\n"]


def _piece(field: dict[str, Any]) -> str:
    """Return the name of the schema part to which a field refers; empty if there is none."""
    refers = next((part for part in (field, *field.get("anyOf", ())) if "$ref" in part), {"$ref": ""})
    return str(refers["$ref"]).rpartition("/")[2]


def _type(field: dict[str, Any]) -> str:
    """Describe in words the values that a field accepts."""
    if "$ref" in field:
        return f"table {_piece(field)}"
    if "const" in field:
        return _code(field["const"])
    if "enum" in field:
        return " or ".join(_code(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(choice) for choice in field["anyOf"] if choice.get("type") != "null"))
    kind = "path" if field.get("format") == "path" else field.get("type", "any value")
    if kind == "array":
        return f"list of {_type(field['items'])}" if field.get("items") else "list"
    limits = [
        f"{sign} {field[key]:g}"
        for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
        if key in field
    ]
    words = {"object": "table", "string": "text", "boolean": "true or false"}.get(kind, kind)
    return f"{words} {' and '.join(limits)}".strip()


def _default(value: Any) -> str:
    if value in (None, ""):
        return "-"
    return _code(value)


def _plain(default: Any) -> Any:
    """Return a command's default as a plain value; a flag without a default is false."""
    return str(default) if isinstance(default, Path) else default


def _code(value: Any) -> str:
    """Return a value in TOML's notation."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _sentence(text: str) -> str:
    """Begin a description with a capital letter and end it with a full stop."""
    text = " ".join(text.split())
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    written = [[" ".join(str(cell).split()).replace("|", r"\|") for cell in row] for row in rows]
    if written:
        yield "| " + " | ".join(head) + " |"
        yield "|" + "---|" * len(head)
        yield from ("| " + " | ".join(row) + " |" for row in written)
        yield ""


def main() -> int:
    """Write the pages, or with `--check` name the stale ones."""
    fresh = pages()
    on_disk = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    if "--check" in sys.argv:
        stale = sorted(name for name in {*fresh, *on_disk} if fresh.get(name) != on_disk.get(name))
        if stale:
            print(f"stale pages in docs/reference: {', '.join(stale)}; run make reference", file=sys.stderr)
        return bool(stale)
    FOLDER.mkdir(exist_ok=True)
    for name in on_disk.keys() - fresh.keys():
        (FOLDER / name).unlink()
    for name, text in fresh.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
