"""Audit a user's own network on a user's own data: train it, serve, tap and attack every cut, and compare the cuts.

An audit writes a study (a TOML file to keep, change and run again) and runs it. Within a budget it runs in two parts:
first every cut gets a cheap reading, and then attacks go where the reading leaves the most open.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from wireleak.common.targets.input import Input
from wireleak.lab.audit.captures import read_captures
from wireleak.lab.audit.clock import Clock
from wireleak.lab.audit.continuing import Progress, keep, opened, resumable, slug
from wireleak.lab.audit.memory import limits_of
from wireleak.lab.audit.readings import CutReading
from wireleak.lab.audit.report import report
from wireleak.lab.audit.rows import CutRow, cut_rows
from wireleak.lab.audit.sizes import READING
from wireleak.lab.audit.studies import all_attacks, audit_study, cheap_attacks, strong_attacks, weights_of
from wireleak.lab.audit.subject import Audited, Request, Subject, examine
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.launch.watch import Watch, say
from wireleak.lab.report.page import render
from wireleak.lab.run.audit_folder import AuditFolder
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.limits import NO_TIME, Limits
from wireleak.lab.run.results import read_results
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.run import run_study
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study

# Part of the time after training in which cells are served and read cheaply.
_SERVING = READING / 0.6
# Part after the share of reading until which cheap readings may run on, so that they leave time to attacks.
_READING_ON = 0.1
# Part of the time after training for a cheap reading of every possible cut, and its longest time without a budget.
_SURVEYING, _SURVEY_SECONDS = 0.15, 600.0
# The least that a trained attack takes beyond the time of a linear reading of its cut, and trained attacks at one cut.
_LEAST_TRAINING, _ATTACKS = 15.0, 2
# A cheap reading settles a cut that leaks at least so much by it.
_SETTLED = 0.5


def audit(
    request: Request, out: Path, jobs: int, console: Console, resume: Path | None = None, before: float = 0.0
) -> Path:
    """Run an audit, print its table, and return the path of audit.html.

    Parameters
    ----------
    request : Request
    out : Path
        Folder in which the study file and the run's folder are made.
    jobs : int
        How many cells, and how many attacks, run at once.
    console : Console
        Output for progress and tables.
    resume : Path, optional
        Folder of an interrupted audit: finished cells and attacks are not repeated.
    before : float
        Seconds of the budget that have passed already, such as those of the command's imports.

    Raises
    ------
    StudyError, DataError
        Before any process starts: network, data, task, attribute or cut cannot be audited as requested.
    LaunchError
        A process failed.
    """
    return _Audit(request, out, jobs, console, resume, Clock(request.budget, before)).run()


@dataclass
class _Audit:
    request: Request
    out: Path
    jobs: int
    console: Console
    resume: Path | None
    clock: Clock
    doing: str = "finding the cuts and their costs"
    limits: Limits | None = None

    def run(self) -> Path:
        """Run every part in turn, and say what is going on while it lasts."""
        with Watch(self._state, self._tick, self.clock.began) as self.watch, ExitStack() as self.opened:
            return self._run()

    @cached_property
    def launcher(self) -> Launcher:
        """One fork server for all parts, which imports the heavy libraries once."""
        return self.opened.enter_context(Launcher())

    def _run(self) -> Path:
        progress = Progress.of(self.resume, self.request) if self.resume else None
        subject = examine(self.request, progress, lambda: self.launcher)
        # Torch takes longer to import than a mistake in the request to find.
        import torch

        from wireleak.lab.audit.trained import doubts, learn

        # Cells and attacks fill the cores; further threads of the lab would only wait for one another.
        torch.set_num_threads(1)
        self.name = f"audit-{slug(self.request.model.rpartition(':')[2])}"
        self._introduce(subject)
        first = cheap_attacks(subject) if self.request.budget is not None else all_attacks(subject)
        self.folder = opened(self.out, self.name, subject, self.request, progress)
        self.opened.enter_context(resumable(self.folder))
        weights = AuditFolder(self.folder).networks
        source = self._keep(audit_study(subject, self.name, weights, first))
        self._now("training")
        study, seeds = load_study(str(source))[0], Seeds.read(RunFolder(self.folder).secret, "--resume", repeated=True)
        learnt = learn(subject, study, seeds, weights, self.launcher, self._say, self.clock.left())
        doubted = doubts(learnt)
        for line in doubted:
            self.console.print(line, style="bold", highlight=False, soft_wrap=True)
        self._now("reading every cut in process")
        surveyed = self._survey(subject, study, seeds)
        self.limits = limits = limits_of(subject, self.clock.deadline(self.clock.reporting))
        if (left := self.clock.left(self.clock.reporting)) is not None:
            # Cells are served in order of priority until attacks need the rest of the time.
            limits.captured = time.monotonic() + left * _SERVING
            limits.deadline = limits.captured + _READING_ON * left
        self._study(subject, source, limits, page=self.request.budget is None)
        limits.deadline = self.clock.deadline(self.clock.reporting)
        subject = self._served(subject)
        settled: dict[int, str] = {}
        if self.request.budget is not None:
            settled = self._attack(Audited(subject, self.folder, survey=surveyed), limits, first, weights)
        self._now("reading the captures")
        until = self.clock.deadline(self.clock.page)
        probed = {row.variant for row in read_results(self.folder).rows if row.measure == "auc"}
        read = [cut for cut in subject.cuts if subject.is_text or f"cut-{cut}" in probed]
        readings = read_captures(self.folder, replace(subject, cuts=tuple(read)), self.launcher, self.console, until)
        skipped = {cut: why for cut, why in by_cut(limits.skipped, settled).items() if cut in subject.cuts}
        for cut, why in readings.skipped.items():
            skipped.setdefault(cut, {})["words" if subject.is_text else "V-information"] = why
        audited = Audited(subject, self.folder, readings, tuple(doubted), skipped, by_cut(limits.stopped, {}), surveyed)
        audited.peak, audited.seconds = self.watch.peak, self.clock.spent
        return report(audited, self.console)

    def _served(self, subject: Subject) -> Subject:
        """Return the subject with only the cuts that were captured in time."""
        served = tuple(
            cut
            for cut in subject.cuts
            if all(RunFolder(self.folder).cell(f"cut-{cut}", seed).done.exists() for seed in range(self.request.seeds))
        )
        missing = {cut: NO_TIME for cut in subject.cuts if cut not in served}
        return replace(subject, cuts=served, left_out=subject.left_out | missing)

    def _state(self) -> str:
        run = self.limits.state() if self.limits is not None else ""
        return f"{self.doing}: {run}" if run else self.doing

    def _tick(self, line: str) -> None:
        """Say a line of the watch, unless progress bars show it."""
        if not (self.console.is_terminal and self.limits is not None):
            say(self.console, line)

    def _now(self, doing: str) -> None:
        """Set what the watch says."""
        self.doing = doing
        if self.limits is not None:
            self.limits.state = str

    def _say(self, line: str) -> None:
        say(self.console, f"[{self.clock.spent:.0f} s] {line}")

    def _introduce(self, subject: Subject) -> None:
        listed = ", ".join(f"{cut} after {subject.block(cut)}" for cut in subject.cuts)
        self.console.print(f"[bold]{self.name}[/]: cuts to audit: {listed}", highlight=False, soft_wrap=True)
        roles = ", ".join(f"{count} {role}" for role, count in subject.counts.roles().items())
        notes = [f"examples: {roles}", *subject.counts.notes]
        if subject.left_out:
            notes.append(f"{len(subject.left_out)} other cuts are possible; audit.html lists them with the reason")
        if subject.unfit:
            notes.append(f"{', '.join(subject.unfit)} of the weights are for other classes and begin untrained")
        for note in notes:
            say(self.console, note)

    def _keep(self, study: str) -> Path:
        """Write the study next to the runs for the user, and into the run's folder."""
        keep(RunFolder(self.folder).study, study)
        return keep(self.out / f"{self.name}.toml", study)

    def _attack(self, read: Audited, limits: Limits, first: list[dict[str, Any]], weights: Path) -> dict[int, str]:
        """Attack the cuts that cheap readings leave the most open; return why others are not attacked."""
        subject = read.subject
        chosen, why = open_cuts(cut_rows(read, read_results(self.folder)))
        kept = chosen[: self._affordable(limits, chosen)]
        why |= dict.fromkeys(chosen[len(kept) :], NO_TIME)
        if attacks := strong_attacks(subject, kept):
            self._say(f"attacks on {', '.join(f'cut {cut}' for cut in kept)}")
            limits.at_once = self.jobs
            study = self._keep(audit_study(subject, self.name, weights, [*first, *attacks]))
            self._study(subject, study, limits, page=False)
        # The run's own report takes about as long as half of the audit's.
        if self.clock.late(1.5 * self.clock.page):
            again = f"wireleak report {self.folder}"
            self.console.print(f"report.html is left out, for want of time; make it with: {again}", soft_wrap=True)
        else:
            render(self.folder)
        return why

    def _affordable(self, limits: Limits, cuts: Sequence[int]) -> int:
        """Return for how many of the cuts there is time to train, by the time that their linear readings took."""
        assert limits.deadline is not None
        left, count = (limits.deadline - time.monotonic()) * self.jobs, 0
        for cut in cuts:
            took = [seconds for name, seconds in limits.took.items() if name.startswith(f"cut-{cut}-")]
            left -= _ATTACKS * self.request.seeds * (max(took, default=0.0) + _LEAST_TRAINING)
            # At the least leaky cut one attack is better than none; the limits stop it.
            if left < 0 and (count or not limits.remaining > 0):
                break
            count += 1
        return count

    def _survey(self, subject: Subject, study: Study, seeds: Seeds) -> dict[int, CutReading]:
        """Return cheap readings of all possible cuts; none of texts, nor where every cut is attacked anyway."""
        from wireleak.lab.audit.survey import survey

        left = self.clock.left(self.clock.reporting)
        if subject.is_text or left == 0 or (left is None and not subject.left_out):
            return {}
        weights = AuditFolder(self.folder).networks
        seed = study.seeds[0]
        trained = Path(weights_of(weights).replace("{seed}", str(seed)))
        try:
            return survey(
                subject,
                study,
                seeds.division(seed),
                # With a frozen encoder, every cut's device has the first weights.
                None if self.request.frozen_encoder else trained,
                weights,
                self.launcher,
                _SURVEY_SECONDS if left is None else _SURVEYING * left,
            )
        except LaunchError as error:
            self.console.print(f"cuts are not read in process: {error}", markup=False, soft_wrap=True)
            return {}

    def _study(self, subject: Subject, source: Path, limits: Limits, page: bool = True) -> None:
        self._now("serving and attacking")
        run_study(
            str(source),
            self.out,
            resume=self.folder,
            data=self.request.root,
            jobs=self.jobs,
            table=False,
            dataset=subject.dataset,
            limits=limits,
            launcher=self.launcher,
            page=page,
            console=self.console,
        )


def open_cuts(rows: Sequence[CutRow]) -> tuple[list[int], dict[int, str]]:
    """Return the cuts that cheap readings do not settle, the least leaky first, and why others are settled.

    The least leaky cut, which would be recommended, is never settled by a cheap reading.
    """
    # A cut that nothing has read comes last: NaN would have no place in an order.
    ordered = sorted(rows, key=lambda row: math.inf if math.isnan(row.leakage) else row.leakage)
    settled = {
        row.cut: f"the {row.reconstruction.by} reading already shows that it leaks ({row.reconstruction.shown})"
        for row in ordered[1:]
        if row.reconstruction is not None and row.outcome == "leak" and row.reconstruction.leakage >= _SETTLED
    }
    return [row.cut for row in ordered if row.cut not in settled], settled


def by_cut(skipped: dict[str, str], settled: dict[int, str]) -> dict[int, dict[str, str]]:
    """Return why attacks did not run, by cut and attack."""
    found: dict[int, dict[str, str]] = {cut: {"trained decoders": reason} for cut, reason in settled.items()}
    for name, reason in skipped.items():
        cut, _, rest = name.removeprefix("cut-").partition("-seed")
        found.setdefault(int(cut), {})[rest.partition("-")[2].removesuffix(f"-{Input.name}")] = reason
    return found
