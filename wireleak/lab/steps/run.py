"""Run a study: plan -> launch -> collect -> score -> report."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

from rich.console import Console, RenderableType

from wireleak.common.files import write_json
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.words import counted
from wireleak.lab.data import Dataset, find
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.launch.watch import Work, working
from wireleak.lab.run.folders import held, point_latest, timed
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.limits import Limits
from wireleak.lab.run.results import read_results
from wireleak.lab.run.scored import is_finished, mark_finished
from wireleak.lab.steps.attack import check_plugins, check_transforms, describe_attacks
from wireleak.lab.steps.collect import collect, shown
from wireleak.lab.steps.executor import Executor, LocalExecutor
from wireleak.lab.steps.plan import check_attacks, make_plan, open_folder, run_seeds, with_seeds
from wireleak.lab.steps.schedule import Schedule
from wireleak.lab.study.library import load_study


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
        schedule = Schedule(plan, launcher, executor, console, described, limits)
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
