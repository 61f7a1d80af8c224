"""The part of a report on rankings: ROC curves, and the worst-protected examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from markupsafe import Markup

from wireleak.common.measures import quantity
from wireleak.common.targets.member import Member
from wireleak.lab.report.boards import Board, SeedMean, notes_of
from wireleak.lab.report.charts.roc import Line, roc
from wireleak.lab.report.charts.strips import strip
from wireleak.lab.report.figures import Drawing
from wireleak.lab.run.pictures import Pictures
from wireleak.lab.run.ranked import Curve, Exposed
from wireleak.lab.run.results import Results

# More lines than this are not told apart.
_MOST_LINES = 6


@dataclass(frozen=True)
class Worst:
    """The worst-protected examples of one attack, for the page."""

    title: str
    found: Exposed
    picture: Markup | None
    notes: tuple[str, ...] = ()

    @property
    def named(self) -> list[tuple[str, str]]:
        """Each example's name, and the probability that the attack gave to its true value."""
        write = quantity("accuracy").write
        pairs = zip(self.found.names, self.found.confidence, strict=True)
        return [(name, write(confidence)) for name, confidence in pairs]

    @property
    def typical(self) -> str:
        """The median of that probability."""
        return quantity("accuracy").write(self.found.typical)


def roc_drawings(results: Results, every: Sequence[Board], names: Mapping[str, str]) -> list[tuple[str, Drawing]]:
    """Return each variant's and target's title with its curves; of membership a second one, with logarithmic axes."""
    groups: dict[tuple[str, str], dict[str, list[Curve]]] = {}
    numbers: dict[str, dict[str, int]] = {}
    for curve in results.rankings.curves:
        known = numbers.setdefault(curve.target, {})
        known.setdefault(curve.attack, len(known))
        groups.setdefault((curve.variant, curve.target), {}).setdefault(curve.attack, []).append(curve)
    drawings = []
    for (variant, target), attacks in groups.items():
        aucs = {attack: _auc(every, variant, attack, target) for attack in attacks}
        scores = {attack: 0.0 if auc is None else auc.value for attack, auc in aucs.items()}
        ordered = [
            (attack, attacks[attack]) for attack in sorted(attacks, key=scores.__getitem__, reverse=True)[:_MOST_LINES]
        ]
        lines = [
            Line(
                _label(attack, aucs[attack]),
                np.array([one.tpr for one in curves]),
                np.array([one.mean_tpr for one in curves]),
                max(one.least for one in curves),
                numbers[target][attack],
            )
            for attack, curves in ordered
        ]
        fpr = np.array(ordered[0][1][0].fpr)
        for logarithmic in (False, True)[: 2 if target == Member.name else 1]:
            title = f"{names.get(variant, variant)}: {target}" + (", logarithmic axes" if logarithmic else "")
            shown = [auc for attack, _ in ordered if (auc := aucs[attack])]
            said = "; ".join([f"ROC of {title}: {', '.join(one.label for one in lines)}", *notes_of(shown)])
            name = f"roc-{variant}-{target}{'-log' if logarithmic else ''}"
            drawings.append((title, Drawing(name, said, partial(roc, fpr, lines, logarithmic))))
    return drawings


def worst(
    results: Results, every: Sequence[Board], pictures: Sequence[Pictures], names: Mapping[str, str]
) -> list[Worst]:
    """Return the worst-protected examples of each attack on a binary value."""
    shown = {(one.variant, one.attack, one.target): one for one in pictures if one.target}
    made = []
    for found in results.rankings.exposed:
        scores = _scores(every, found.variant, found.attack, found.target)
        mark = next((score.mark for score in scores if score.mark), "")
        title = f"{names.get(found.variant, found.variant)}: {found.target} by {found.attack}{mark}"
        held = shown.get((found.variant, found.attack, found.target))
        said = f"{title}: the {len(found.names)} worst-protected examples"
        picture = None if held is None else strip(held.originals, said, held.ink)
        made.append(Worst(title, found, picture, tuple(notes_of(scores))))
    return made


def _label(attack: str, auc: SeedMean | None) -> str:
    return attack if auc is None else f"{attack}, AUC {auc.written}"


def _auc(every: Sequence[Board], variant: str, attack: str, target: str) -> SeedMean | None:
    return next((one for one in _scores(every, variant, attack, target) if one.measure == "auc"), None)


def _scores(every: Sequence[Board], variant: str, attack: str, target: str) -> list[SeedMean]:
    """Return the attack's own scores."""
    found = (one for one in every if (one.variant, one.attack, one.target) == (variant, attack, target))
    return [score for board in found for score in board.scores if not score.name]
