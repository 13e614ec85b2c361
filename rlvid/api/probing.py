"""Probe a reward before anything is trained with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvid.api.arguments import as_list
from rlvid.api.evaluated import evaluation_config
from rlvid.config import Config, load
from rlvid.config.reader import parse_override
from rlvid.errors import UserError
from rlvid.utils.files import write_text

if TYPE_CHECKING:
    from rlvid.probes.replies import Replies
    from rlvid.probes.result import ProbeResult


def probe(
    reward: str | Callable[..., Any],
    overrides: str | Sequence[str] = (),
    on: str | Path | None = None,
    model: str | Path | None = None,
    thresholds: str | Sequence[str] = (),
    weight: float = 1.0,
    timeout: float = 30.0,
    json: str | Path | None = None,
    groups: int | None = None,
    **options: Any,
) -> ProbeResult:
    """Find out what a reward pays for: values, information, what group normalization leaves of it, and tricks it pays.

    Args:
        reward: a name, `./file.py:f`, `module:f`, or a function or class. Besides rlvid's own forms: a `reward_func` of
            TRL, a `compute_score` of verl or of EasyR1.
        overrides: the reward's options and, with a dot in their name, config keys: ["sentences=2", "judge.model=X"].
        on: replies to probe it on: a run folder with samples/, or a file of JSON lines; default: the shipped groups.
        model: the policy that evidence is computed with; default: the policy of the run `on`, or nano.
        thresholds: such as ["tricks.max_gain=0.2"].
        weight: of the reward beside accuracy of weight 1, where advantages are compared.
        timeout: seconds for one call of the reward.
        json: also write the result there.
        groups: probe at most so many groups, evenly spaced: fewer calls of a judge; default: all, or 24 with a policy.
        options: further options of the reward.

    Returns:
        The result as data. A notebook displays it as a report, and its method `print()` prints it.

    Raises:
        UserError: if there is no such reward, and if it raises, hangs or returns something else than numbers; the
            message names the reply.
    """
    from rlvid.probes.run import run_probe
    from rlvid.probes.subject import Subject
    from rlvid.probes.verdicts import thresholds_with

    if groups is not None and groups < 1:
        raise UserError(f"--groups {groups}: give how many groups of replies to probe, 1 or more")
    if not isfinite(weight):
        raise UserError(f"--weight {weight:g}: give a finite number")
    if not isfinite(timeout) or timeout <= 0:
        raise UserError(f"--timeout {timeout:g}: give seconds, above 0")
    limits = thresholds_with(as_list(thresholds))
    given = as_list(overrides)
    fields = {key: value for one in given if not _is_config_key(one) for key, value in parse_override(one).items()}
    replies, config = _replies_and_config(on, model, [one for one in given if _is_config_key(one)])
    subject = Subject.read(reward, fields | options, config, timeout)
    result = run_probe(subject, replies, limits, weight, groups)
    if json:
        write_text(Path(json), result.to_json() + "\n")
    return result


def _replies_and_config(
    on: str | Path | None, model: str | Path | None, overrides: Sequence[str]
) -> tuple[Replies, Config]:
    """Return the replies, and the config that names the models of evidence: that of the run, or the preset nano."""
    from rlvid.probes.replies import saved_replies, shipped_replies

    changes = [f'model="{model}"'] if model else []
    run = None if on is None else next((path for path in (Path(on), Path(on).parent) if _is_run(path)), None)
    if run is None:
        config = load("nano", [*changes, *overrides])
        return (shipped_replies() if on is None else saved_replies(Path(on))), config
    from rlvid.data.benchmark import load_level
    from rlvid.data.prompts import under_protocol

    config = evaluation_config(run, None, (), [*changes, *overrides])
    trained = under_protocol(load_level(config.data, "train", config.data_seed), config.train.protocol)
    prompts = {prompt.id: prompt for prompt in trained}
    return saved_replies(Path(on or run), config.data, prompts), config


def _is_run(path: Path) -> bool:
    return (path / "config.toml").is_file() and (path / "samples").is_dir()


def _is_config_key(override: str) -> bool:
    return "." in override.partition("=")[0]
