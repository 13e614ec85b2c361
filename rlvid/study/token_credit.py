"""What each token of a training step depended on, and the credit that it got: one group of a run, as colored text.

All of the step's completions, as the run saved them in `samples/`, are tokenized again, scored with the weights of the
run's last checkpoint, and given credit by the run's algorithm. Those weights are some steps away from the ones that
wrote the completions; what an algorithm kept from step to step is that of the checkpoint, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.text import Text

from rlvid.algorithm import Algorithm
from rlvid.config import load
from rlvid.data.prompts import training_data
from rlvid.errors import UserError
from rlvid.noise.apply import build_noise
from rlvid.noise.base import Noise
from rlvid.policy.model import Policy
from rlvid.policy.oom import OOMBackoff
from rlvid.registry import suggest
from rlvid.reward import RewardMix
from rlvid.study.attention import load_last_weights
from rlvid.study.runs import Row
from rlvid.trainer import checkpoint
from rlvid.trainer.credit import assign_credit
from rlvid.trainer.rollout import Rollout, dummy_group
from rlvid.trainer.token_inputs import TokenInputs
from rlvid.types import Batch, Completion, Group, Prompt
from rlvid.utils.files import read_json, read_jsonl
from rlvid.utils.logging import silence_libraries

VIEWS = {"pixels": "blank", "order": "shuffled"}  # what a token may depend on -> the view without it
LEGEND = (
    "positive: likelier with the clip (pixels) or with its order (order), or made likelier by the step (credit); "
    "nats, credit in units of the largest of the group. Blue is positive, red negative"
)
SCALE = 1.0  # nats at which a color is full


@dataclass(frozen=True)
class TokenCredit:
    """One completion, token by token. All sequences have one entry per token.

    Attributes:
        tokens: the texts of the tokens.
        pixels, order: log-probability minus that with a blank clip, and with shuffled frames, in nats.
        credit: advantage times weight: its part of the step's loss, in units of the largest of its group.
        total: the completion's reward.
        sample, step: the id of the prompt, and the training step that the completion was sampled in.
        question: of the prompt.
    """

    tokens: Sequence[str]
    pixels: Sequence[float]
    order: Sequence[float]
    credit: Sequence[float]
    total: float
    sample: str = ""
    step: int = 0
    question: str = ""


def token_credit(run: Path, sample: str = "", step: int = 0) -> list[TokenCredit]:
    """Return the completions of one prompt of a training step.

    Args:
        run: a run folder.
        sample: the id of the prompt; "" is the first one whose completions earned different rewards.
        step: of the run; 0 is the last one.

    Raises:
        UserError: the run has no such sample or no weights left, or its algorithm's credit cannot be computed again.
    """
    silence_libraries()
    config = load(run / "config.toml")
    algorithm: Algorithm = config.algorithm.build("algorithms")
    if algorithm.critic_settings or (algorithm.kl == "k1_reward" and algorithm.beta):
        raise UserError(f"{run}: credit that depends on a critic or on a KL in the reward cannot be computed again")
    if getattr(algorithm, "corrects", False):
        raise UserError(f"{run}: importance weights need the sampler's log-probs, which are not saved")
    rows, chosen, number = find_sample(run, sample, step)
    noise = build_noise(config.noise)
    prompts = training_data(config.data, "train", config.data_seed, 1.0, config.seed, noise).prompts
    policy = load_last_weights(run, config)
    rollout = saved_rollout(policy, {prompt.id: prompt for prompt in prompts}, rows, noise)
    needs = algorithm.needs - {"ref_logps"} | {"old_logps", *(f"view_logps:{view}" for view in VIEWS.values())}
    backoff = OOMBackoff("tokens", config.train.max_tokens_per_forward)
    scores = TokenInputs(needs, policy, None, config.train.temperature, backoff, noise.corrupt_clip)(rollout)
    weights = RewardMix.build(config.rewards).weights_at(number)
    step_data = rollout.to_step(number, weights, scores, memory_of(run), max_steps=config.train.max_steps)
    batch = assign_credit(algorithm, step_data)
    policy.frames.close()
    credited, scored = (whole.select_groups([chosen], len(rows)) for whole in (batch, step_data.batch))
    group = rollout.groups[chosen]
    of_step = completions_of(policy, group, credited, scored, rows[chosen]["totals"])
    prompt = group.prompt
    return [replace(one, sample=prompt.id, step=number, question=prompt.question) for one in of_step]


def find_sample(run: Path, sample: str, step: int) -> tuple[list[Row], int, int]:
    """Return the lines of a step's `samples/`, which of them is the prompt's, and the number of the step.

    See `token_credit`.
    """
    paths = {int(path.stem.removeprefix("step-")): path for path in (run / "samples").glob("step-??????.jsonl")}
    number = step or max(paths, default=0)
    if number not in paths:
        raise UserError(f"{run} has no samples of step {number}: give a run folder with training steps")
    rows: list[Row] = [*read_jsonl(paths[number])]
    for i, row in enumerate(rows):
        if row["id"] == sample or (not sample and len(set(row["totals"])) > 1):
            return rows, i, number
    ids = [row["id"] for row in rows]
    problem = (
        f"no sample {sample!r}.{suggest(sample, ids)}" if sample else "no sample whose completions differ in reward;"
    )
    raise UserError(f"step {number} of {run} has {problem} It has {', '.join(ids)}")


def saved_rollout(policy: Policy, prompts: Mapping[str, Prompt], rows: Sequence[Row], noise: Noise) -> Rollout:
    """Return the rollout of a step: its completions as they were saved, tokenized again."""
    end = policy.tokenizer.eos_token_id
    groups = []
    for row in rows:
        if row["id"] not in prompts:
            raise UserError(f"the data no longer contains the sample {row['id']!r} that the run was trained on")
        views = row.get("views") or [""] * len(row["completions"])
        completions = [
            Completion(text, (*policy.tokenizer(text)["input_ids"], *([end] * done)), finished=done, view=view)
            for text, done, view in zip(row["completions"], row["finished"], views, strict=True)
        ]
        groups.append(Group(prompts[row["id"]], completions, columns=row["columns"]))
    inputs = [policy.encode(g.prompt, noise.corrupt_clip(g.prompt, policy.frames(g.prompt))) for g in groups]
    totals = [row["totals"] for row in rows]
    return Rollout.gather(range(len(rows)), inputs, groups, totals, dummy_group(policy, groups[0].prompt))


def memory_of(run: Path) -> dict[str, Any]:
    """Return what the algorithm had kept at the last checkpoint, {} without one."""
    checkpoints = checkpoint.checkpoints(run)
    state = read_json(checkpoints[-1] / "state.json") if checkpoints else None
    return dict(state["memory"]) if state else {}


def completions_of(
    policy: Policy, group: Group, batch: Batch, scored: Batch, totals: Sequence[float]
) -> list[TokenCredit]:
    """Return the completions of a credited group, whose tokens were scored in `scored`."""
    assert scored.old_logps is not None
    differences = {name: scored.old_logps - scored.view_logps[view] for name, view in VIEWS.items()}
    credit = batch.advantages * batch.weights
    credit = credit / credit.abs().max().clamp(min=1e-12)
    rows = []
    for i, (completion, total) in enumerate(zip(group, totals, strict=True)):
        tokens = [policy.tokenizer.decode([token]) for token in completion.tokens]
        values = {
            name: tensor[i, : len(tokens)].tolist() for name, tensor in (differences | {"credit": credit}).items()
        }
        rows.append(TokenCredit(tokens, values["pixels"], values["order"], values["credit"], total))
    return rows


def render(completions: Sequence[TokenCredit], colors: bool = True) -> Lines:
    """Return the completions as text: three lines each, colored by pixels, by order and by credit.

    Blue is positive: likelier with the clip, or learnt. Red is negative. A color is full at 1 nat, and for credit at
    the largest of the group. Without `colors`, each token is followed by its number: "tap(+0.42)".
    """
    lines = []
    if completions and completions[0].sample:
        first = completions[0]
        lines += [Text(f"sample {first.sample}, step {first.step}, scored with the last checkpoint", "bold")]
        lines += [Text(first.question), Text(LEGEND, "dim"), Text("")]
    for number, completion in enumerate(completions):
        lines.append(Text(f"completion {number}, reward {completion.total:g}", "bold"))
        for name in (*VIEWS, "credit"):
            line = Text(f"{name:>8}  ")
            for token, value in zip(completion.tokens, getattr(completion, name), strict=True):
                shown = token.replace("\n", " ")
                line.append(shown, _color(value)) if colors else line.append(f"{shown}({value:+.2f})")
            lines.append(line)
    return Lines(*lines)


def _color(value: float) -> str:
    """A background from white to blue for positive values, to red for negative ones; black text."""
    faded = round(255 * (1 - min(abs(value) / SCALE, 1.0)))
    return f"black on #{faded:02x}{faded:02x}ff" if value >= 0 else f"black on #ff{faded:02x}{faded:02x}"
