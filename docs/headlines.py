"""Fill the tables of results.md and results/README.md from the CSV files under results/."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
Row = dict[str, str]
# Measures of which a lower value is better for the attacker.
LOWER = ("MSE", "MAPE")
# Verdicts on defences, as their files write them.
BOUNDED, OPEN = "No leak above", "Not resolved"


def main() -> None:
    """Write the tables of both pages again."""
    index = read(RESULTS / "index.csv")
    page = DOCS / "results.md"
    text = page.read_text()
    for entry in index:
        text = between(text, entry["study"], "\n\n".join(parts(entry)))
    page.write_text(text)
    readme = RESULTS / "README.md"
    readme.write_text(between(readme.read_text(), "index", files(index)))


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV file, or none where the file is missing."""
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def between(text: str, name: str, new: str) -> str:
    """Replace the text between a page's markers of that name by `new`.

    Raises
    ------
    ValueError
        The page has no such markers, or more than one pair.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    made, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{new}\n{end}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"markers {begin} … {end}: found {count} times; write them once")
    return made


def parts(entry: Row) -> Iterator[str]:
    """Yield the lines below a study's paragraph: its origin, its table and published figures."""
    study, file = entry["study"], entry["file"]
    seeds = f"{entry['seeds']} seed" + ("s" if entry["seeds"] != "1" else "")
    yield f"`{entry['command']}`, {seeds}, commit `{entry['commit']}`; [all figures](results/{file})"
    if study not in declared():
        yield defences(read(RESULTS / file))
        return
    yield headline(study, read(RESULTS / file))
    if settings := read(RESULTS / file.replace(".csv", "-settings.csv")):
        yield defences(settings)
    if answers := read(RESULTS / file.replace(".csv", "-answers.csv")):
        yield layers(answers)
    figures = [row for row in read(RESULTS / "published.csv") if row["study"] == study]
    if figures:
        yield published(figures)


def declared() -> dict[str, dict[str, Any]]:
    """Return the tables that headlines.toml declares, by study. Studies without a table only compare defences."""
    return tomllib.loads((RESULTS / "headlines.toml").read_text())


def headline(study: str, rows: list[Row]) -> str:
    """Return a study's table, as declared in headlines.toml."""
    spec = declared()[study]
    fields, columns = spec["rows"], spec["columns"]
    made = []
    for key in dict.fromkeys(tuple(row[field] for field in fields) for row in rows if row["role"] == "attack"):
        where = dict(zip(fields, key, strict=True))
        cells = [cell(rows, where, *column[1:]) for column in columns]
        if any(text != "–" for text in cells):
            made.append([*key, *cells])
    return table([*fields, *(column[0] for column in columns)], made)


def cell(rows: list[Row], where: Row, target: str, attack: str, measure: str, name: str = "") -> str:
    """Return one cell: an attack's value, interval and strongest baseline, or the value of the row called `name`."""
    wanted = {"target": target, "attack": attack, "measure": measure}
    wanted = {field: value for field, value in wanted.items() if value != "*"} | where
    own = wanted.pop("attack")
    here = [row for row in rows if all(row[field] == value for field, value in wanted.items())]
    here = [row for row in here if row["attack"] in (own, "")]
    if name:
        return next((row["value"] + unit(row) for row in here if row["name"] == name), "–")
    score = next((row for row in here if row["role"] == "attack"), None)
    if score is None:
        return "–"
    text = score["value"] + unit(score) + (f" [{score['low']}, {score['high']}]" if score["low"] else "")
    baselines = sorted((row for row in here if row["role"] == "baseline"), key=lambda row: float(row["value"]))
    if baselines:
        best = baselines[0 if measure in LOWER else -1]
        text += f" ({best['value']}{unit(best)})"
    return text


def unit(row: Row, field: str = "unit") -> str:
    """Return a value's unit, with a space before it."""
    return f" {row[field]}" if row[field] else ""


def defences(rows: list[Row]) -> str:
    """Return the settings that lower a leak for two points of accuracy or less, and how many do and do not."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    counts, tables = (
        [],
        {target: {row["setting"]: row for row in rows if row["target"] == target} for target in targets},
    )
    for target, by_name in tables.items():
        settings = [row for row in by_name.values() if row["removed"]]
        bare = next(row for row in by_name.values() if not row["removed"])
        cells = [target, f"{bare['leak_measure']} {bare['leak']} [{bare['leak_low']}, {bare['leak_high']}]"]
        found = [[row[flag] == "yes" for row in settings] for flag in ("lowers_leak", "helps_for_2_points")]
        found += [[row["verdict"].startswith(verdict) for row in settings] for verdict in (BOUNDED, OPEN)]
        cells += [f"{sum(flags)} of {len(settings)}" for flags in found]
        counts.append(cells)
    head = ["private", "leak without a defence", "settings that lower it", "for 2 points or less"]
    head += ["no leak above the margin", "not resolved"]
    first = tables[targets[0]]
    helpful = [
        name for name in first if any(by_name[name]["helps_for_2_points"] == "yes" for by_name in tables.values())
    ]
    made = []
    for name in helpful:
        lost = f"{first[name]['lost']} [{first[name]['lost_low']}, {first[name]['lost_high']}]"
        leaks = [
            f"{row['leak']} ({row['removed']} [{row['removed_low']}, {row['removed_high']}])"
            for row in (by_name[name] for by_name in tables.values())
        ]
        made.append([name, lost, *leaks])
    columns = ["setting", "accuracy lost", *(f"{target}: leak (removed)" for target in targets)]
    return f"{table(head, counts)}\n\n{table(columns, made)}"


def layers(rows: list[Row]) -> str:
    """Return the layers that reveal most of the input and of the property, and whether the paper's findings hold."""
    named = rows[0]["property"]
    head = [
        "variant",
        "most of the input",
        "the first layers most?",
        f"most of {named}",
        "the first dense layers most?",
    ]
    made = []
    for row in rows:
        places = [
            (row["input_layer"], f"{row['input_db']} dB" if "input_db" in row else f"{row['input_r2']} R²"),
            (row["property_layer"], f"{row['property_bits']} bits"),
        ]
        of_input, of_property = (f"{layer}, {most}" if layer else "no layer above its null" for layer, most in places)
        made.append([row["variant"], of_input, claim(row, "input"), of_property, claim(row, "property")])
    return table(head, made)


def claim(row: Row, about: str) -> str:
    """Return whether a layer's claim holds, with its margin and interval; tables of older runs have no interval."""
    verdict = row[f"{about}_as_published"]
    verdict = {"yes": "as in the paper", "no": "not as in the paper"}.get(verdict, verdict)
    # Where no layer is above its null, a margin compares nothing.
    if not row.get(f"{about}_margin_low") or not row[f"{about}_layer"]:
        return verdict
    value, low, high = (row[f"{about}_{name}"] for name in ("margin", "margin_low", "margin_high"))
    return f"{verdict}: {value} [{low}, {high}]"


def published(rows: list[Row]) -> str:
    """Return published figures next to ours."""
    made = []
    for row in rows:
        ours = row["here"] + unit(row) + (f" [{row['low']}, {row['high']}]" if row["low"] else "")
        theirs = row["published"] + unit(row, "published_unit")
        made.append([row["variant"], row["attack"] or "the task", row["measure"], ours, theirs, row["source"]])
    return table(["variant", "attack", "measure", "here", "published", "source"], made)


def files(index: list[Row]) -> str:
    """Return the table of CSV files: command, seeds, commit, date and duration."""
    made = []
    for row in index:
        file, command, commit = f"[{row['file']}]({row['file']})", f"`{row['command']}`", f"`{row['commit']}`"
        made.append([file, command, row["seeds"], commit, row["date"], row["seconds"]])
    return table(["file", "command", "seeds", "commit", "date", "seconds"], made)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = ["| " + " | ".join(row) + " |" for row in ([*head], *([*row] for row in rows))]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


if __name__ == "__main__":
    main()
