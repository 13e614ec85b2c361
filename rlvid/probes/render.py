"""The report of a probe: one verdict a block, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rlvid.probes.replies import shipped_replies
from rlvid.probes.result import FAIL, PASS, Block, ProbeResult
from rlvid.probes.verdicts import false_alarms
from rlvid.study.notebook import table_html
from rlvid.utils.console import wide_console

MARKS = {PASS: ("✓", "green"), FAIL: ("✗", "red")}
COLORS = {"gamed": "red", "blind": "yellow", "caught": "green"}
TITLES = {"groups": "in groups", "video": "video"}
BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 22  # of a bar, in characters
QUOTED = 72
SHOWN_CORRELATIONS = 6
MAJORITY = 0.5
FEW_GROUPS, MEASURED_ON = 24, 72  # a probe that runs a policy has 24
Numbers = Mapping[str, Any]


def print_result(result: ProbeResult) -> None:
    """Print the report, in the width of the terminal."""
    console = wide_console()
    for part in report(result):
        console.print(part, highlight=False, markup=False)


def report(result: ProbeResult) -> list[RenderableType]:
    """Return the parts of the report, top to bottom."""
    options = " ".join(f"{name}={value}" for name, value in result.options.items())
    title = Text.assemble((f"{result.reward}", "bold"), f" {options}" if options else "", (f"  {result.where}", "dim"))
    size = f"{result.replies} replies in {result.groups} groups, {result.source}; {result.seconds:.1f} s"
    parts: list[RenderableType] = ["", title, Text(size, style="dim")]
    if result.groups < FEW_GROUPS:
        parts.append(Text(f"few groups: all numbers are rough; false alarms were measured on {MEASURED_ON}", "yellow"))
    for block in result.blocks:
        parts += ["", verdict_line(block), *(Padding(part, (0, 0, 0, 4), expand=False) for part in block_parts(block))]
    return [*parts, "", summary(result), *other_replies(result)]


def verdict_line(block: Block) -> Text:
    """Return a block's mark, title and verdict in words."""
    mark, color = MARKS.get(block.verdict, ("–", "dim"))
    title = f"{TITLES.get(block.name, block.name):<12}"
    return Text.assemble((f"{mark} {title}", f"bold {color}"), (block.text, "dim" if color == "dim" else ""))


def summary(result: ProbeResult) -> Text:
    """Return the end of the report: which thresholds were missed, by what, and how often that is a false alarm."""
    failed = [finding for block in result.blocks for finding in block.failed]
    if not failed:
        return Text("no block failed", style="green")
    limits = "".join(
        f"\n    threshold {finding.threshold}={finding.limit:g}, here {finding.value:.3g}; "
        f"false alarms on honest rewards: {false_alarms()[finding.threshold]['honest']}"
        for finding in failed
    )
    return Text.assemble((f"{len(result.failed)} of {len(result.blocks)} blocks failed", "red"), (limits, "dim"))


def other_replies(result: ProbeResult) -> list[RenderableType]:
    """Return a line on `--on` where the reward tells the shipped replies nothing: it may be made for other ones."""
    empty = {"value.min_applied", "value.min_distinct"} & {f.threshold for block in result.blocks for f in block.failed}
    if not empty or result.source != shipped_replies().source:
        return []
    advice = f"If it is made for other replies, probe it on those: rlvid probe {result.reward} --on RUN_OR_FILE"
    return [Text(advice, style="dim")]


def block_parts(block: Block) -> list[RenderableType]:
    """Return what is shown below a block's verdict."""
    parts: dict[str, Callable[[Numbers], list[RenderableType]]] = {
        "value": value_parts,
        "information": information_parts,
        "groups": group_parts,
        "tricks": trick_parts,
        "video": video_parts,
    }
    return parts[block.name](block.numbers) if block.numbers else []


def value_parts(numbers: Numbers) -> list[RenderableType]:
    """Return histograms of all, right and wrong replies and of each level, and the best and worst replies."""
    if "histogram" not in numbers:
        return []
    histogram, levels = numbers["histogram"], numbers["levels"]
    rows = [("all", numbers["summary"], histogram["all"])]
    rows += [(name, numbers[name], histogram[name]) for name in ("right", "wrong")]
    rows += [(level, row, histogram["levels"][level]) for level, row in levels.items() if len(levels) > 1]
    table = _table()
    for name, row, counts in rows:
        if row["n"]:
            table.add_row(Text(name), _spark(counts), f"mean {row['mean']:.2f}", f"{row['n']} replies")
    edges = histogram["edges"]
    axis = f"{edges[0]:<6.3g}{edges[-1]:>6.3g}" if numbers["distinct"] > 1 else f"{edges[0]:.3g}"
    table.add_row("", Text(axis, style="dim"), "", "")
    parts: list[RenderableType] = [table]
    if numbers["distinct"] > 1:
        quoted = _table()
        for name in ("best", "worst"):
            for row in numbers[name]:
                mark = "right" if row["right"] else "wrong"
                quoted.add_row(
                    Text(name, style="dim"), f"{row['value']:.2f}", mark, Text(_quote(row["reply"], 3 * QUOTED))
                )
        parts.append(quoted)
    return [*parts, Text(f"{1000 * numbers['seconds_per_reply']:.2g} ms a reply", style="dim")]


def information_parts(numbers: Numbers) -> list[RenderableType]:
    """Return the largest correlations as bars, and reliability."""
    related = {name: value for name, value in numbers["correlations"].items() if value is not None}
    if numbers["length_given_right"] is not None:
        related["tokens, given right"] = numbers["length_given_right"]
    ranked = sorted(related, key=lambda name: -abs(related[name]))
    always = [name for name in ("accuracy", "tokens", "format") if name in related]
    shown = list(dict.fromkeys([*ranked[:SHOWN_CORRELATIONS], *always]))
    table = _table()
    for name in sorted(shown, key=lambda name: -abs(related[name])):
        table.add_row(name, _signed_bar(related[name]), f"{related[name]:+.2f}")
    parts: list[RenderableType] = [Text("correlation with", style="dim"), table]
    if coherence := numbers.get("coherence"):
        values = "   ".join(f"{name} {value:.2f}" for name, value in coherence.items())
        parts.append(Text.assemble(("AUROC, answer follows from the reasoning   ", "dim"), values))
    if "changed_twice" in numbers:
        again, order, padding = (numbers[f"changed_{way}"] for way in ("twice", "order", "padding"))
        text = f"scored again {again:.0%}   another order {order:.0%}   white space {padding:.0%}"
        parts.append(Text.assemble(("values that change   ", "dim"), text))
    return parts


def group_parts(numbers: Numbers) -> list[RenderableType]:
    """Return advantage shares as bars, and what remains of the reward in groups."""
    if numbers["size"] < 2:
        return []
    table = _table()
    for scale, share in numbers["shares"].items():
        table.add_row(f"scale_rewards={scale}", _bar(min(share, 1.0)), f"{share:.2f}")
    heading = f"advantage share beside accuracy, weights 1 and {numbers['weight']:g}, groups of {numbers['size']}"
    splits = f"{numbers['flat']:.0%}; of accuracy {numbers['flat_accuracy']:.0%}, of which this one splits"
    lines: list[RenderableType] = [Text(heading, style="dim"), table]
    if rescue := numbers.get("rescue"):
        lines.append(Text.assemble(("what would keep it   ", "dim"), rescue_text(rescue)))
    if replacement := numbers.get("replacement"):
        lines.append(Text.assemble(("what is kept instead   ", "dim"), replacement_text(replacement)))
    share = numbers["rescued"] / numbers["flat_accuracy"] if numbers["flat_accuracy"] else 0.0
    lines.append(Text.assemble(("flat groups   ", "dim"), f"{splits} {share:.0%}"))
    if numbers["between_groups"] is not None:
        text = f"{numbers['between_groups']:.0%} of its variance: what a group baseline subtracts"
        lines.append(Text.assemble(("between groups   ", "dim"), text))
    if numbers["agreement"] is not None:
        low, high = numbers.get("agreement_interval") or (numbers["agreement"],) * 2
        text = f"{numbers['agreement']:.0%} ({low:.0%} to {high:.0%})"
        lines.append(Text.assemble(("same sign as accuracy's advantage   ", "dim"), text))
    return lines


def rescue_text(rescue: Numbers) -> str:
    """Say at which weight a cancelled reward would be kept, and whether it tells right replies apart."""
    if rescue["weight"] is not None:
        words = f"under scale_rewards=group a weight of {rescue['weight']:g} (share {rescue['share']:.2f})"
    else:
        words = "under scale_rewards=group no weight, up to ten times as large"
    if rescue["alike"] is None:
        return words
    alike = f"{rescue['alike']:.0%} of the groups pay all their right replies the same"
    return f"{words}; {alike}" + (": pay what differs among them" if rescue["alike"] > MAJORITY else "")


def replacement_text(found: Numbers) -> str:
    """Name the shipped reward that is kept and says most of what a cancelled one says, or say that none does."""
    if not found["kept"]:
        return f"none of {found['tried']} shipped rewards"
    beyond = f"rank correlation {found['given_right']:+.2f} among right and among wrong replies"
    words = f"{found['nearest']} (share {found['share']:.2f}): {beyond}, {found['correlation']:+.2f} over all"
    if found["reward"]:
        return words
    return f"of {found['kept']} shipped rewards that are kept none says the same; the nearest is {words}"


def trick_parts(numbers: Numbers) -> list[RenderableType]:
    """Return what tricks and harmful edits earn beside honesty, and the best gamed reply."""
    parts: list[RenderableType] = []
    if tricks := numbers.get("tricks"):
        among = ", among the honest replies to the question" if numbers.get("compares") else ""
        heading = f"tricks in prose, with the right answer{among}; gamed: earns more than honesty, blind: as much"
        parts += [Text(heading, style="dim"), trick_table(numbers["honest"], tricks)]
    if edits := numbers.get("edits"):
        table = _table()
        for edit, row in sorted(edits.items(), key=lambda pair: -pair[1]["gain"]):
            color = "red" if row["gain"] > 0.02 else "yellow" if row["moved"] < 0.05 else "green"
            change = f"{row['before']:.2f} → {row['after']:.2f}"
            table.add_row(edit, Text(change, style=color), f"{row['moved']:.0%} change")
        among = ", each among the other replies of its group" if numbers.get("compares") else ""
        parts += [Text(f"harmful edits of honest replies to the probed questions{among}", style="dim"), table]
    if search := numbers.get("search"):
        parts += search_parts(search)
    return parts


def search_parts(search: Numbers) -> list[RenderableType]:
    """Return what the search found: the reply that it raised most, or that nothing was raised."""
    start, best, honest = search["start"], search["best"], f"the best honest reply earns {search['honest_best']:.2f}"
    if best - start["value"] < 1e-9:
        return [Text.assemble(("search   ", "dim"), f"nothing raised in {search['tried']} tries; {honest}")]
    answer = "right" if search["right"] else "wrong"
    found = f"a reply with the {answer} answer rose from {start['value']:.2f} to {best:.2f} in {search['tried']} tries"
    return [
        Text.assemble(("search   ", "dim"), f"{found}; {honest}"),
        Text.assemble(("it reads   ", "dim"), _quote(search["reply"], 3 * QUOTED)),
    ]


def trick_table(honest: Numbers, tricks: Numbers) -> Table:
    """Return a table of tricks, the best paid first, with honesty where it belongs."""
    table = _table()
    rows = [("honest replies", honest["mean"], "")] + [(t, row["mean"], row["fate"]) for t, row in tricks.items()]
    low, high = min(0.0, *(row[1] for row in rows)), max(row[1] for row in rows)
    for name, mean, fate in sorted(rows, key=lambda row: -row[1]):
        bar = _bar((mean - low) / (high - low) if high > low else 0.0, COLORS.get(fate, "bold"))
        table.add_row(
            Text(name, style="bold" if not fate else ""), bar, f"{mean:.2f}", Text(fate, COLORS.get(fate, ""))
        )
    return table


def video_parts(numbers: Numbers) -> list[RenderableType]:
    """Return what right and wrong replies earn under each clip."""
    table = _table("clip", "right replies", "wrong replies", "values that move")
    table.add_row("true", *(_number(numbers["true"][key]) for key in ("right", "wrong")), "")
    for name, row in numbers["conditions"].items():
        table.add_row(name, _number(row["right"]), _number(row["wrong"]), f"{row['moved']:.0%}")
    return [table]


def to_html(result: ProbeResult) -> str:
    """Return the report as HTML for a notebook; all text is escaped."""
    parts = [f"<h3>{escape(result.reward)}</h3>", f'<p style="opacity: .7">{escape(result.source)}</p>']
    for block in result.blocks:
        mark, color = MARKS.get(block.verdict, ("–", "gray"))
        title = escape(TITLES.get(block.name, block.name))
        parts.append(f'<p><b style="color: {color}">{mark} {title}</b> {escape(block.text)}</p>')
        for part in block_parts(block):
            if isinstance(part, Table):
                parts.append(table_html(part))
            elif isinstance(part, Text):
                parts.append(f'<p style="margin: .2em 0; max-width: 80em">{escape(part.plain)}</p>')
    return f'<div style="font-family: monospace; line-height: 1.3">{"".join(parts)}</div>'


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(headings), pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading)
    return table


def _bar(share: float, color: str = "cyan") -> Text:
    """Return a bar of a share from 0 to 1, in eighths of a character."""
    eighths = round(max(0.0, min(share, 1.0)) * WIDTH * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")
    return Text(f"{text:<{WIDTH}}", style=color)


def _signed_bar(value: float) -> Text:
    """Return a bar of a correlation from -1 to 1, to the left or the right of a line."""
    half = WIDTH // 2
    length = round(abs(value) * half)
    left, right = (" " * half, "█" * length) if value >= 0 else (f"{'█' * length:>{half}}", "")
    return Text.assemble((left, "magenta"), ("│", "dim"), (f"{right:<{half}}", "cyan"))


def _spark(counts: Sequence[int]) -> Text:
    """Return a histogram of one character a bin."""
    most = max(counts, default=0) or 1
    return Text("".join(BARS[0 if not n else max(1, round(8 * n / most))] for n in counts), style="cyan")


def _quote(text: str, width: int = QUOTED) -> str:
    """Return a text in quotes, cut in the middle: replies to one question often begin alike."""
    words = " ".join(text.split())
    return f"“{words}”" if len(words) <= width else f"“{words[: width // 3]} … {words[-(2 * width // 3) + 3 :]}”"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
