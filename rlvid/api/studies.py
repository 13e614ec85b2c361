"""Read the folders of finished and unfinished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from rlvid.api.arguments import as_list
from rlvid.errors import UserError
from rlvid.utils.files import write_text

if TYPE_CHECKING:
    from rlvid.study.cases import QuestionPair
    from rlvid.study.reply_kinds import RunKinds
    from rlvid.study.report import Report
    from rlvid.study.study import Study
    from rlvid.study.token_credit import TokenCredit


def report(
    runs: str | Path,
    plots: bool = True,
    html: str | Path | None = None,
    json: str | Path | None = None,
    csv: str | Path | None = None,
    metric: str = "",
) -> Report:
    """Print tables and tests for a folder of runs, and draw its curves.

    Args:
        runs: a folder of runs; a folder with the logs of lmms-eval or VLMEvalKit, one folder for each checkpoint, see
            rlvid/study/logs.py; or a TOML file of published counts or a folder of them, see
            rlvid/study/published_counts.py.
        plots: draw figures into the folder.
        html: also write one page there, with figures, cases with clips, attention maps and settings.
        json: also write the rows of all tables there as JSON.
        csv: also write them there as one CSV table, whose first column names the section.
        metric: of logs that have several.

    Returns:
        The rows of all tables, see `rlvid.study.report.Report`.
    """
    from rich.console import Console

    from rlvid.study.logs import LoggedRun
    from rlvid.study.report import print_report

    folder = Path(runs)
    study, result = _read_report(folder, metric)
    if html and study is None:
        raise UserError(f"--html makes a page of a folder of runs; {runs} holds published counts")
    written = []  # before anything is printed: printing ends early in `rlvid report RUNS --html FILE | head`
    for path, to_text in ((json, result.to_json), (csv, result.to_csv)):
        if path:
            write_text(Path(path), to_text())
            written.append(f"rows         {path}")
    if html and study is not None:
        from rlvid.study.page import save_page

        written.append(f"page         {save_page(study, Path(html))}")
    if study is None or isinstance(study.runs[0], LoggedRun):
        result.print()
    else:
        print_report(result, study, folder, plots)
    for line in written:
        Console().print(line, soft_wrap=True, highlight=False, markup=False)
    return result


def _read_report(folder: Path, metric: str) -> tuple[Study | None, Report]:
    """Return the report on a folder or a file, and the study behind it: None for published counts."""
    from rlvid.study.claims import build_claims_report, is_counts_folder
    from rlvid.study.logs import checkpoint_folders, read_logs
    from rlvid.study.published_counts import build_counts_report, read_counts
    from rlvid.study.report import build_report
    from rlvid.study.study import read_study

    if checkpoint_folders(folder):
        study = read_logs(folder, metric)
        return study, build_report(study)
    if metric:
        raise UserError(f"--metric is for logs of another tool, and {folder} holds none")
    if folder.suffix == ".toml":
        return None, build_counts_report(read_counts(folder))
    if is_counts_folder(folder):
        return None, build_claims_report(folder)
    study = read_study(folder)
    return study, build_report(study)


def watch(runs: str | Path, every: float = 2.0, once: bool = False) -> None:
    """Show the progress of a folder of runs: steps, remaining time, curves, alarms.

    Args:
        runs: the folder.
        every: seconds between refreshes; ends when all runs have ended.
        once: print once and return.
    """
    from rlvid.grids.watch import watch

    if not isfinite(every) or every <= 0:
        raise UserError(f"--every {every:g}: give seconds, above 0")
    watch(Path(runs), every, once)


def audit(run: str | Path) -> None:
    """Print an audit of a run's answers: position bias, leniency, truncation, collapse, coherence, altered views."""
    from rich.console import Console

    from rlvid.study.audit import audit

    Console().print("", audit(Path(run)), markup=False)


def replies(
    runs: str | Path | Sequence[str | Path], kinds: str | Sequence[str], credit: str | Sequence[str] = ()
) -> list[RunKinds]:
    """Print which kinds of replies runs sample in their first and last steps, and what each reward pays for a kind.

    Args:
        runs: folders of training runs, or one of them.
        kinds: NAME=REGEX each, such as "habit=It begins with"; the first is the one that others are compared with.
        credit: algorithms, such as "grpo" or "pass_at_k:k=2": also print how much credit each would give each kind,
            see `rlvid.study.reply_credit`.

    Returns:
        The rows of the tables of each run, see `rlvid.study.reply_kinds`.
    """
    from rich.console import Console

    from rlvid.study.reply_kinds import parse_kinds, read_kinds, render_kinds

    patterns = parse_kinds(as_list(kinds))
    found = [read_kinds(run, patterns) for run in _paths(runs)]
    if credit:
        from rlvid.study.reply_credit import build_algorithms, read_credit, render_credit

        algorithms = build_algorithms(as_list(credit))
        credits = [read_credit(run, patterns, algorithms) for run in _paths(runs)]
        found = [replace(one, credit=rows) for one, rows in zip(found, credits, strict=True)]
    for one in found:
        Console().print("", render_kinds(one), markup=False)
        if one.credit:
            Console().print(render_credit(one.credit, one.num_steps), markup=False)
    return found


def compare(
    a: str | Path,
    b: str | Path,
    patterns: str | Sequence[str] | None = None,
    levels: str | Sequence[str] = (),
    domains: str | Sequence[str] = (),
    where: str | Sequence[str] = (),
    limit: int = 5,
    metric: str = "",
) -> list[QuestionPair]:
    """Print how often two runs answer the same questions correctly, and some cases with both completions.

    Args:
        a: a run folder, or a folder with logs of lmms-eval or VLMEvalKit.
        b: another one.
        patterns: such as "a wrong, b right"; () means all. None: the questions on which one run is right and the other
            wrong, or if there are none, those that both got wrong.
        levels: levels such as "L3"; none means all.
        domains: domains of the benchmark; none means all.
        where: conditions on the line of `b`, such as "length>40"; all must hold.
        limit: the number of cases to print.
        metric: of logs that have several.

    Returns:
        The selected questions, each with the lines of `eval/LEVEL.jsonl` of both runs.
    """
    from rich.console import Console

    from rlvid.study.cases import compare_runs, render_comparison, select_questions, telling_patterns

    if limit < 0:
        raise UserError(f"--limit {limit}: give how many cases to show, 0 or more")
    pairs = compare_runs(Path(a), Path(b), metric)
    chosen = telling_patterns(pairs) if patterns is None else as_list(patterns)
    selected = select_questions(pairs, chosen, as_list(levels), as_list(domains), as_list(where))
    shown = render_comparison(pairs, selected, (Path(a).name, Path(b).name), limit, chosen)
    Console().print("", shown, markup=False)
    if patterns is None and len(selected) < len(pairs):
        Console().print("(--pattern without a value shows all questions)", style="dim")
    return selected


def credit(run: str | Path, sample: str = "", step: int = 0, html: str | Path | None = None) -> list[TokenCredit]:
    """Print what each token of a training step's completions depended on, and the credit that it got.

    Args:
        run: a run folder.
        sample: the id of a prompt of the step; "" is the first one whose completions earned different rewards.
        step: of the run; 0 is the last one.
        html: also write the coloured text there, as a page.

    Returns:
        The completions of the prompt, see `rlvid.study.token_credit`.
    """
    from rich.console import Console

    from rlvid.study.token_credit import render, token_credit

    if not (Path(run) / "config.toml").is_file():
        raise UserError(f"{run} is no run folder: it has no config.toml")
    completions = token_credit(Path(run), sample, step)
    console = Console()
    console.print("", render(completions, colors=console.color_system is not None and not console.no_color))
    if html is not None:
        page = Console(record=True, file=StringIO(), width=console.width, force_terminal=True)
        page.print("", render(completions))
        write_text(Path(html), page.export_html())
        print(f"page: {html}")
    return completions


def attention(
    runs: str | Path | Sequence[str | Path],
    sample: str,
    what: str = "reasoning",
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    out: str | Path | None = None,
) -> Path:
    """Draw where models attend while they write their completion of one question.

    Args:
        runs: run folders, drawn side by side, or one of them.
        sample: the question, as ID or LEVEL/ID.
        what: the tokens whose attention is drawn: "reasoning", "answer", "reply" for all, or a word of the completions.
        layers: layers to average over, counted from 0; none means all.
        heads: heads to average over, counted from 0; none means all.
        out: the folder for attention.png, attention.json and the frames; by default RUN/attention/ID in the first run.

    Returns:
        The path of the picture.
    """
    from rich.console import Console

    from rlvid.study import heatmap
    from rlvid.study.attention import record_runs

    paths = _paths(runs)
    recorded, prompt, clip = record_runs(paths, sample, layers, heads)
    folder = Path(out) if out else paths[0] / "attention" / sample
    heatmap.save_json(recorded, prompt, clip, what, folder)
    picture = heatmap.draw_figure(recorded, prompt, clip, what, folder / "attention.png")
    Console().print("", heatmap.share_table(recorded), "", markup=False)
    print(f"picture: {picture}")
    return picture


def _paths(runs: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
