"""Run the cells and attacks of a study side by side, and say how far they are."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from wireleak.common.traffic import Traffic
from wireleak.lab.devices.pi.system import built
from wireleak.lab.launch.endings import with_progress
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.launch.watch import say
from wireleak.lab.report.formatting import size
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob, attack_jobs
from wireleak.lab.run.kept import drop_training, settle_captures, space_needed
from wireleak.lab.run.limits import NO_TIME, LimitError, Limits
from wireleak.lab.run.results import Row
from wireleak.lab.run.scored import kept_scores
from wireleak.lab.steps.attack import AttackKilledError, run_attack
from wireleak.lab.steps.collect import Findings
from wireleak.lab.steps.devices import recipes
from wireleak.lab.steps.executor import Executor
from wireleak.lab.steps.plan import Plan
from wireleak.lab.steps.score import cut_short, score_job
from wireleak.lab.steps.wires import inspect_captures
from wireleak.lab.study.schema import StudyError

# Part of an attack's time in which its process ends by itself; the rest is for its scores.
_OWN = 0.75


class Schedule:
    """Two pools: cells, which mostly wait for Flower's polls, and attacks, which compute."""

    def __init__(
        self,
        plan: Plan,
        launcher: Launcher,
        executor: Executor,
        console: Console,
        described: dict[str, dict[str, Any]],
        limits: Limits | None,
    ) -> None:
        self.plan = plan
        self.limits = limits
        self.described = described
        self.launcher = launcher
        self.executor = executor
        self.cell_pool = ThreadPoolExecutor(executor.jobs, thread_name_prefix="cell")
        self.attack_pool = ThreadPoolExecutor(executor.jobs, thread_name_prefix="attack")
        self.device_pool = ThreadPoolExecutor(1, thread_name_prefix="system")
        self.findings = Findings()
        self.cells: list[Cell] = []
        # Attacks of each cell that have not ended.
        self.left: dict[str, int] = {}
        self.futures: set[Future[None]] = set()
        self.lock = threading.Lock()
        self.capturing = 0
        self.warned = False
        # The attacks that run, by their lines.
        self.running: dict[TaskID, AttackJob] = {}
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        # In a pipe, bars would be redrawn for nobody; there the watch writes lines.
        hidden = not console.is_terminal
        self.progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=hidden)

    def run(self, cells: list[Cell]) -> None:
        """Run every cell and its attacks; the first failure stops all."""
        self.cells = cells
        with self.progress:
            if self.limits is not None:
                self.limits.state = self.state
                jobs = [job for cell in cells for job in attack_jobs(cell) if not job.guesses.exists()]
                self.limits.waiting = {job.name for job in jobs} - set(self.limits.skipped)
            self.cells_bar = self.progress.add_task("captures", total=len(cells))
            if self.plan.study.devices:
                # The system is built while the first cells train; they wait for it before they serve.
                self._submit(self.device_pool, self._build)
            self.attacks_bar = self.progress.add_task("attacks", total=sum(len(attack_jobs(cell)) for cell in cells))
            try:
                for cell in cells:
                    self._submit(self.cell_pool, self._capture, cell)
                while pending := self._pending():
                    wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                    self._stop_late_captures()
                    self._follow()
            except BaseException:
                self.executor.stop()
                self.launcher.kill()
                raise
            finally:
                for pool in (self.device_pool, self.cell_pool, self.attack_pool):
                    pool.shutdown(wait=True, cancel_futures=True)

    def _stop_late_captures(self) -> None:
        """End the processes of captures that the deadline finds unfinished; attacks end by their own limits."""
        if self.capturing and self.limits is not None and self.limits.late:
            self.launcher.end_all()

    def _follow(self) -> None:
        """Add to the line of each running attack how far it says that it is."""
        # An attack that ends takes its line away.
        with self.lock:
            for line, job in self.running.items():
                self.progress.update(line, description=f"  {with_progress(job.name, job.log)}")

    def state(self) -> str:
        """Return the progress bars in one line."""
        bars = [task for task in self.progress.tasks if task.total]
        lines = [task.description.strip() for task in self.progress.tasks if not task.total]
        done = ", ".join(f"{bar.description} {bar.completed:.0f} of {bar.total:.0f}" for bar in bars)
        return f"{done}{': ' if lines else ''}{'; '.join(lines)}"

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[..., None], *args: object) -> None:
        with self.lock:
            self.futures.add(pool.submit(work, *args))

    def _pending(self) -> Iterable[Future[None]]:
        """Return unfinished futures; raise the first failure of finished ones."""
        with self.lock:
            done = {future for future in self.futures if future.done()}
            for future in done:
                future.result()
            self.futures -= done
            return set(self.futures)

    def _build(self) -> None:
        line = self.progress.add_task("system", total=None)
        try:
            for recipe in recipes(self.plan.study):
                built(recipe, self.launcher, lambda what: self.progress.update(line, description=f"  {what}"))
        finally:
            self.progress.remove_task(line)

    def _capture(self, cell: Cell) -> None:
        if cell.lost:
            say(self.progress.console, f"{cell.name} is captured again: {'; '.join(cell.lost)}")
        if not cell.captured and not self._captured(cell):
            assert self.limits is not None
            self.limits.skipped |= dict.fromkeys((job.name for job in attack_jobs(cell)), NO_TIME)
            self.limits.waiting -= set(self.limits.skipped)
            return
        wires = inspect_captures(cell, self.launcher)
        read = {self.described[use.name]["reads"] for use in cell.study.attacks_on(cell.variant)}
        if Traffic.SPLIT_TRAINING not in read:
            drop_training(cell)
        jobs = attack_jobs(cell)
        with self.lock:
            self.findings.wires[cell.name] = wires
            self.left[cell.name] = len(jobs)
        self.progress.advance(self.cells_bar)
        self._warn_of_space(cell.run)
        for job in jobs:
            self._submit(self.attack_pool, self._attack, job)
        if not jobs:
            settle_captures(cell)

    def _warn_of_space(self, folder: Path) -> None:
        """Say once that the disk is likely to fill before the last capture."""
        if self.warned:
            return
        # Files are counted outside the lock, for which the attacks' ends wait.
        needed, free = space_needed(self.cells), shutil.disk_usage(folder).free
        with self.lock:
            if self.warned or needed <= free:
                return
            self.warned = True
        say(
            self.progress.console,
            f"warning: the captures still to come need about {size(needed)}, and {folder} has {size(free)} left; "
            "if the disk fills, the run stops, keeps its captures, and goes on with --resume",
        )

    def _captured(self, cell: Cell) -> bool:
        """Capture a cell; return whether there was time for it."""
        limits = self.limits
        if limits is not None and limits.leaves_out(self.cells.index(cell)):
            return False
        line = self.progress.add_task(cell.name, total=None)
        with self.lock:
            self.capturing += 1
        try:
            with limits.reserved(limits.capture) if limits else nullcontext():
                self.executor.capture(
                    cell,
                    self.plan,
                    self.launcher,
                    lambda what: self.progress.update(line, description=f"  {cell.name}: {what}"),
                    self.progress.console.print,
                )
        except LaunchError:
            if limits is None or not limits.late:
                raise
            return False
        finally:
            with self.lock:
                self.capturing -= 1
            self.progress.remove_task(line)
        return True

    def _attack(self, job: AttackJob) -> None:
        line = self.progress.add_task(f"  {job.name}", total=None)
        with self.lock:
            self.running[line] = job
        try:
            rows = self._rows(job)
        finally:
            with self.lock:
                del self.running[line]
            self.progress.remove_task(line)
        with self.lock:
            if rows is not None:
                self.findings.rows[job.name] = rows
            self.left[job.cell.name] -= 1
            ended = not self.left[job.cell.name]
        if ended:
            settle_captures(job.cell)
        self.progress.advance(self.attacks_bar)

    def _rows(self, job: AttackJob) -> list[Row] | None:
        """Run and score an attack; return None where limits or its own failure stopped it."""
        attack, limits = self.described[job.use.name], self.limits
        if limits is None:
            try:
                if not job.guesses.exists():
                    self.executor.attack(job, self.launcher, attack)
                return kept_scores(job, partial(score_job, job))
            except (LaunchError, StudyError) as error:
                if not isinstance(error, AttackKilledError):
                    # Without a client that was lost, an attack may have nothing to read.
                    if not job.cell.lost:
                        raise
                    self.launcher.check()
                self.findings.skipped[job.name] = str(error)
                self.progress.console.print(f"skipped {job.name}: {error}", markup=False, highlight=False)
                return None
        began = time.monotonic()
        if not job.guesses.exists() and not self._within(limits, job, attack):
            return None
        if (said := cut_short(job)) is not None:
            limits.stopped[job.name] = said
        if job.name not in limits.rows:
            with limits.scoring():
                score = partial(score_job, job, limits.quality)
                limits.rows[job.name] = kept_scores(job, score, repr(sorted(limits.quality or ())))
            limits.took[job.name] = time.monotonic() - began
        return limits.rows[job.name]

    def _within(self, limits: Limits, job: AttackJob, attack: dict[str, Any]) -> bool:
        """Run an attack within limits; return whether it ended, and otherwise note why not."""
        try:
            with limits.attacking(job) as variables:
                seconds = limits.remaining
                limits.waiting.discard(job.name)
                most = seconds if limits.deadline is None else limits.deadline - time.monotonic()
                run_attack(job, self.launcher, attack, most, variables, _OWN * seconds)
        except (LimitError, LaunchError) as error:
            self.launcher.check()
            unfinished = isinstance(error, LaunchError) and limits.late
            limits.skipped[job.name] = "it did not end in the time that was left" if unfinished else str(error)
        limits.waiting.discard(job.name)
        return job.name not in limits.skipped
