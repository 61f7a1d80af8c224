"""Run a study: plan -> launch -> collect -> score -> report."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from wireleak.common.files import write_json
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.traffic import Traffic
from wireleak.common.words import counted
from wireleak.lab.data import Dataset, find
from wireleak.lab.devices.pi.system import built
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.launch.watch import Work, say, working
from wireleak.lab.report.formatting import size
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.folders import held, point_latest, timed
from wireleak.lab.run.job import AttackJob, attack_jobs
from wireleak.lab.run.kept import drop_training, settle_captures, space_needed
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.limits import NO_TIME, LimitError, Limits
from wireleak.lab.run.results import Row, read_results
from wireleak.lab.run.scored import is_finished, kept_scores, mark_finished
from wireleak.lab.steps.attack import AttackKilledError, check_plugins, check_transforms, describe_attacks, run_attack
from wireleak.lab.steps.collect import Findings, collect, shown
from wireleak.lab.steps.devices import recipes
from wireleak.lab.steps.executor import Executor, LocalExecutor
from wireleak.lab.steps.plan import Plan, check_attacks, make_plan, open_folder, run_seeds, with_seeds
from wireleak.lab.steps.score import cut_short, score_job
from wireleak.lab.steps.wires import inspect_captures
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError

# Part of an attack's time in which its process ends by itself; the rest is for its scores.
_OWN = 0.75


def run_study(
    name: str,
    out: Path,
    *,
    resume: Path | None = None,
    data: Path | None = None,
    seeds: int | None = None,
    secret: Path | None = None,
    jobs: int = 2,
    preload: bool = True,
    table: bool = True,
    command: str | None = None,
    dataset: Dataset | None = None,
    limits: Limits | None = None,
    launcher: Launcher | None = None,
    page: bool = True,
    executor: Executor | None = None,
    console: Console,
) -> Path:
    """Run a study and return its run's folder.

    Parameters
    ----------
    name : str
        Study's name or TOML file.
    out : Path
        Folder in which the run's folder is made.
    resume : Path, optional
        An interrupted run's folder: finished cells and attacks are not repeated.
    data : Path, optional
        Folder that holds data sets.
    seeds : int, optional
        Run with seeds 0 to seeds - 1 instead of the study's.
    secret : Path, optional
        File with another run's secret, to repeat its draws; by default the one that WIRELEAK_SECRET names, if any.
    jobs : int
        Number of cells, and of attacks, that run at once.
    preload : bool
        Start processes by forking a preloaded interpreter.
    table : bool
        Print the result table.
    command : str, optional
        Command that repeats this run, for the report; by default `wireleak run` with the study's name.
    dataset : Dataset, optional
        The study's data, if it has been read already.
    limits : Limits, optional
        Limits of time and memory; an attack that they stop, or that fails, is noted and does not end the run.
    launcher : Launcher, optional
        Starts the processes, and stays open; by default the run has its own.
    page : bool
        Write and name the report; otherwise only the results.
    executor : Executor, optional
        Runs captures and attacks; by default this machine does, `jobs` at once.
    console : Console
        Output for progress and the result table.

    Raises
    ------
    StudyError, DataError
        Before any process starts: the study cannot run as declared.
    LaunchError
        A process failed; the message says where the captures are.
    """
    began = time.monotonic()
    study, source = load_study(name)
    drawn = run_seeds(secret, resume)
    if resume is not None and limits is None and is_finished(resume, source, with_seeds(study, seeds), drawn):
        return _announce(console, resume.resolve(), shown(read_results(resume)) if table else None)
    if dataset is None:
        find(study.data.name, data, **study.data.options)
    with ExitStack() as stack:
        work = stack.enter_context(working(console) if limits is None else nullcontext(Work(console)))
        parts = stack.enter_context(ExitStack())
        parts.enter_context(work.on("reading the data and checking the study"))
        if resume is not None:
            stack.enter_context(held(resume))
        # The fork server imports modules while the data is read.
        launcher = launcher or stack.enter_context(Launcher(preload))
        plan = make_plan(study, data, seeds, dataset, drawn)
        described = describe_attacks(launcher)
        check_attacks(plan, described)
        names, words = list(plan.dataset.attributes), are_numbered(plan.dataset.x)
        steps = check_transforms(plan.study, launcher, names, words=words)
        check_plugins(plan.study, launcher)
        executor = executor or LocalExecutor(jobs)
        executor.check(plan.study)
        folder = open_folder(plan, out, source, resume)
        if resume is None:
            stack.enter_context(held(folder))
        began = stack.enter_context(timed(folder, began))
        cells = plan.cells(folder)
        console.print(
            f"[bold]{study.name}[/]: {counted(len(cells), 'cell')} (variants × seeds) into {folder}",
            highlight=False,
            soft_wrap=True,
        )
        parts.close()
        schedule = _Schedule(plan, launcher, executor, console, described, limits)
        work.state = schedule.state
        try:
            schedule.run(cells)
            write_json(
                RunFolder(folder).processes,
                [
                    {"name": one.name, "cpu_s": one.cpu_seconds, "peak_bytes": one.peak_bytes}
                    for one in launcher.processes
                ]
                + executor.processes,
            )
            repeat = command or f"wireleak run {name}"
            schedule.findings.skipped.update({} if limits is None else limits.skipped)
            with work.on("computing bounds and drawing the report"):
                scores, _ = collect(plan, schedule.findings, described, folder, began, repeat, steps, page)
        except (LaunchError, OSError) as error:
            again = name if command is None else RunFolder(folder).study
            hint = f"Captures are kept in {folder}; continue with: wireleak run {again} --resume {folder}"
            # A full disk may also lose the log's last line, and with it the reason.
            full = shutil.disk_usage(folder).free < 1 << 20 and "No space left" not in str(error)
            raise LaunchError(f"{'No space left on device: ' if full else ''}{error}. {hint}") from error
        except KeyboardInterrupt:
            console.print(f"stopped; captures are kept in {folder}; continue with --resume {folder}", soft_wrap=True)
            raise
        if limits is None and not schedule.findings.skipped and not any(cell.lost for cell in cells):
            mark_finished(folder, cells)
    point_latest(folder, study.name)
    return _announce(console, folder, scores if table else None, page)


def _announce(console: Console, folder: Path, table: RenderableType | None, page: bool = True) -> Path:
    """Print the result table and where the report is, and return the run's folder."""
    if table is not None:
        console.print(table)
    if page:
        console.print(f"report: {RunFolder(folder).report}", soft_wrap=True, highlight=False)
    return folder


class _Schedule:
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
        with self.lock:
            if self.warned or (needed := space_needed(self.cells)) <= (free := shutil.disk_usage(folder).free):
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
        try:
            rows = self._rows(job)
        finally:
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
