"""The table of every shipped reward's probe in rewards/README.md.

    python -m rlvid.probes.table [--write rewards/README.md] [REWARD ...]
    python -m rlvid.probes.table "observation_reasoning by=rule"
    python -m rlvid.probes.table --with-models [--write rewards/README.md] [consistency_judge] [perception_judge] [...]
    python -m rlvid.probes.table consistency_nli --set evidence.nli=FOLDER

Rewards that need a judge or a cross-encoder are left out unless they are named, with config keys of the model: no such
model comes with rlvid. `--with-models` probes them with those that rlvid makes: see language_model.py and
cross_encoder.py. `--write` replaces the rows of the probed rewards and keeps the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlvid.config import load
from rlvid.probes import cross_encoder, language_model
from rlvid.probes.false_alarms import replace_between
from rlvid.probes.replies import shipped_replies
from rlvid.probes.result import FAIL, SKIPPED, ProbeResult
from rlvid.probes.run import run_probe
from rlvid.probes.subject import Subject
from rlvid.probes.verdicts import thresholds_with
from rlvid.registry import available, build
from rlvid.reward import evidence_needs
from rlvid.utils.files import write_text

MARKS = "<!-- probes -->", "<!-- end of probes -->"
NO_MODEL = frozenset({"judge", "nli"})
JUDGED = ("consistency_judge", "observation_reasoning", "perception_judge", "video_attention_score")
WITH_MODELS = (*JUDGED, "consistency_nli")
STAND_INS = ("observation_reasoning by=rule",)  # with these options they need no model from outside
MARK = " †"  # after the names of rewards that were probed with a model that does not come with rlvid
JUDGED_GROUPS = 24  # of the judge from packages, which replies to one prompt at a time
HEADINGS = (
    "reward",
    "mean, right / wrong",
    "AUROC",
    "flat groups",
    "advantage share, group / none",
    "tricks: gamed, blind, caught",
    "edits that change nothing",
    "twin clip",
    "the probe says",
)


def probed_rewards() -> list[str]:
    """Return the shipped rewards that can be probed with what comes with rlvid, as `rlvid probe` takes them."""
    own = [name for name in available("rewards") if not evidence_needs(build("rewards", name)) & NO_MODEL]
    return sorted([*own, *STAND_INS])


def probe_shipped(reward: str, overrides: Sequence[str] = (), at_most: int | None = None) -> ProbeResult:
    """Return the probe of a shipped reward on at most so many groups of the shipped replies.

    Args:
        reward: its name, and options where they are not its defaults: "observation_reasoning by=rule".
        overrides: config keys such as evidence.nli=FOLDER.
        at_most: see `run_probe`.
    """
    name, *options = reward.split()
    subject = Subject.read(name, dict(option.split("=") for option in options), load("nano", overrides), timeout=60)
    return run_probe(subject, shipped_replies(), thresholds_with(), 1.0, at_most)


def probe_with_models(name: str, judged_groups: int = JUDGED_GROUPS) -> ProbeResult:
    """Return the probe of one of `WITH_MODELS` with the model from packages, or with the cross-encoder made for it."""
    if name == "consistency_nli":
        return probe_shipped(name, [f'evidence.nli="{cross_encoder.cached()}"'])
    with language_model.served() as url:
        keys = {"url": f'"{url}"', "model": f'"{language_model.JUDGE}"', "max_tokens": language_model.MAX_TOKENS}
        judge = [f"judge.{key}={value}" for key, value in {**keys, **language_model.ON_CPU}.items()]
        return probe_shipped(name, judge, judged_groups)


def row(result: ProbeResult) -> list[str]:
    """Return the cells of a reward."""
    value, information, groups = (result[name].numbers for name in ("value", "information", "groups"))
    tricks, video = result["tricks"].numbers, result["video"].numbers
    right, wrong = (value[key].get("mean") for key in ("right", "wrong"))
    fates = [one["fate"] for one in tricks.get("tricks", {}).values()]
    edits = tricks.get("edits", {})
    still = sum(one["moved"] < 0.05 for one in edits.values())
    shares = groups.get("shares")
    twin = video.get("conditions", {}).get("twin", {}) if video else {}
    name = " ".join([result.reward, *(f"{key}={option}" for key, option in result.options.items())])
    return [
        f"`{name}`{MARK if name in WITH_MODELS else ''}",
        "" if right is None else " / ".join(f"{round(mean, 2) + 0.0:.2f}" for mean in (right, wrong)),
        "" if information.get("auroc") is None else f"{information['auroc']:.2f}",
        f"{groups['flat']:.0%}" if groups else "",
        f"{shares['group']:.2f} / {shares['none']:.2f}" if shares and not groups["is_accuracy"] else "",
        ", ".join(str(fates.count(fate)) for fate in ("gamed", "blind", "caught")) if fates else "",
        f"{still} of {len(edits)}" if edits else "",
        f"{video['true']['right']:.2f} → {twin['right']:.2f}" if twin else "",
        in_short(result),
    ]


def in_short(result: ProbeResult) -> str:
    """Return what failed, in words."""
    failed = [f"{block.name}: {block.text}" for block in result.blocks if block.verdict == FAIL]
    if failed:
        return "; ".join(failed)
    return "passes " + ", ".join(block.name for block in result.blocks if block.verdict != SKIPPED)


def markdown(results: Sequence[ProbeResult]) -> str:
    """Return probes of several rewards as a Markdown table, one row each, with the columns `HEADINGS`."""
    rows = [list(HEADINGS), ["---"] * len(HEADINGS), *map(row, results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def with_rows(table: str, new: str) -> str:
    """Return a table of probes in which the rows of another one replace those of the same rewards, sorted by name."""
    lines = [line for text in (table, new) for line in text.strip().splitlines()[2:]]
    rows = {line.split("|")[1]: line for line in lines}
    return "\n".join([*new.splitlines()[:2], *(rows[name] for name in sorted(rows))])


def main() -> None:
    """Probe the rewards and print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rewards", nargs="*", metavar="REWARD", help="default: all")
    parser.add_argument("--with-models", action="store_true", help="probe those that need models that rlvid makes")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="config keys")
    parser.add_argument("--groups", type=int, metavar="N", help="at most so many groups (default: see rlvid probe)")
    parser.add_argument("--write", type=Path, metavar="README")
    args = parser.parse_args()
    results = []
    for name in args.rewards or (WITH_MODELS if args.with_models else probed_rewards()):
        if args.with_models:
            results.append(probe_with_models(name, args.groups or JUDGED_GROUPS))
        else:
            results.append(probe_shipped(name, args.set, args.groups))
        print(repr(results[-1]), file=sys.stderr, flush=True)
    shown = markdown(results)
    print(shown)
    if args.write:
        text = args.write.read_text()
        table = text.partition(MARKS[0])[2].partition(MARKS[1])[0]
        write_text(args.write, replace_between(text, with_rows(table, shown), MARKS))


if __name__ == "__main__":
    main()
