"""Signs that a run learns the wrong thing, raised while there is time to stop it.

collapse    most completions to different questions contain the same thought, word for word
truncation  most completions are cut off by the length limit
hacking     a reward rises while accuracy falls: on a held-out level compared with the best evaluation so far, accuracy
            lower by more than two standard errors; or in training, the last ten steps compared with the best ten,
            both differences larger than three standard errors
mismatch    completions have other log-probabilities under the learner than the sampler drew them with, on average over
            the tokens of a step: stale weights, or other inputs. The limits are those of the parity gate

A reward that pays only right answers, such as one behind a gate, falls with accuracy: it is taken per right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from rlvid.answer import extract_thought
from rlvid.policy.parity import SAMPLER_TOLERANCE
from rlvid.trainer.metrics import MISMATCH
from rlvid.trainer.records import GroupRecord

MAJORITY = 0.5
WINDOW = 10  # steps of training that are compared with as many earlier ones
NO_SHARE = 1e-9  # of a reward in the advantages: rounding gives less
FEWEST_QUESTIONS = 4  # with fewer in a step, equal thoughts mean nothing

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Alarm:
    """A sign that a run learns the wrong thing: its kind, a sentence, and the id of a sample that shows it."""

    kind: str
    says: str
    sample: str = ""


def detect_alarms(
    metrics: Metrics,
    records: Sequence[GroupRecord],
    previous: Sequence[Metrics],
    level_sizes: Mapping[str, int],
    bf16: bool = False,
) -> list[Alarm]:
    """The alarms of a step.

    Args:
        metrics, records: of the step.
        previous: metrics of the steps before it.
        level_sizes: level -> number of questions, for each level that was evaluated at this step.
        bf16: whether the model computes in bfloat16.
    """
    alarms = [*collapse(records), *truncation(metrics, records), *mismatch(metrics, bf16)] if records else []
    for level, questions in level_sizes.items():
        alarms += evaluation_hacking(level, metrics, previous, questions, records)
    return alarms + (training_hacking([*previous, metrics], records) if records else [])


def collapse(records: Sequence[GroupRecord]) -> list[Alarm]:
    """The alarm that most questions get the same thought. Each question counts once, however often it gets it."""
    thoughts: dict[str, set[str]] = {}  # sample id -> those of all of its groups: a question may occur twice in a step
    for r in records:
        thoughts.setdefault(r.id, set()).update(t for text in r.completions if (t := extract_thought(text)))
    counts = Counter(t for per_question in thoughts.values() for t in per_question)
    [(commonest, count)] = counts.most_common(1) or [("", 0)]
    if count <= MAJORITY * len(thoughts) or len(thoughts) < FEWEST_QUESTIONS:
        return []
    sample = next(name for name, per_question in thoughts.items() if commonest in per_question)
    return [Alarm("collapse", f"{count} of {len(thoughts)} questions get one and the same thought", sample)]


def truncation(metrics: Metrics, records: Sequence[GroupRecord]) -> list[Alarm]:
    """The alarm that most completions are cut off: the limit is too small, or the policy no longer ends them."""
    share = metrics["completions/clipped_ratio"]
    if share <= MAJORITY:
        return []
    sample = next(r.id for r in records if not all(r.finished))
    return [Alarm("truncation", f"{share:.0%} of the completions are cut off by train.max_completion_length", sample)]


def mismatch(metrics: Metrics, bf16: bool) -> list[Alarm]:
    """What is learnt from was not sampled from these weights and inputs. Demonstrations are not sampled."""
    difference, limit = metrics.get(f"{MISMATCH}/mean", 0.0), SAMPLER_TOLERANCE[bf16]
    if difference <= limit:
        return []
    words = f"log-probabilities of the sampler and the learner differ by {difference:.2g} nats a token"
    return [Alarm("mismatch", f"{words}, more than {limit:g}")]


def evaluation_hacking(
    level: str, metrics: Metrics, previous: Sequence[Metrics], questions: int, records: Sequence[GroupRecord] = ()
) -> list[Alarm]:
    """A reward that is higher on a held-out level than at its best evaluation, while accuracy is lower."""
    accuracy, gated = f"eval/{level}/accuracy", rewards_of_right_answers_only(records)
    best = max((row for row in previous if accuracy in row), key=lambda row: row[accuracy], default=None)
    if best is None:
        return []
    # Agresti & Caffo 2000: a right and a wrong answer more on both sides, so that no error is 0 at 0 or 100 %.
    high, low = ((row[accuracy] * questions + 1) / (questions + 2) for row in (best, metrics))
    standard_error = ((high * (1 - high) + low * (1 - low)) / (questions + 2)) ** 0.5
    if high - low <= 2 * standard_error:
        return []
    alarms = []
    for key in (k for k in metrics if _reward_of(k, level) and k in best):
        reward = _reward_of(key, level)
        before, now = (_paid(row, key, accuracy, reward in gated) for row in (best, metrics))
        if now > before:
            words = f"on {level} accuracy fell from {best[accuracy]:.1%} to {metrics[accuracy]:.1%} while {reward}"
            alarms.append(_hacking_alarm(words, reward, reward in gated, before, now, records))
    return alarms


def training_hacking(rows: Sequence[Metrics], records: Sequence[GroupRecord]) -> list[Alarm]:
    """A reward that is higher over the last `WINDOW` steps than over the most accurate earlier ones, accuracy lower."""
    rows, gated = [row for row in rows if "clean_accuracy" in row], rewards_of_right_answers_only(records)
    windows = [rows[end - WINDOW : end] for end in range(len(rows), WINDOW - 1, -WINDOW)]  # the latest first
    if len(windows) < 2:
        return []
    latest, best = windows[0], max(windows[1:], key=lambda window: fmean(row["clean_accuracy"] for row in window))
    best_accuracy, accuracy = ([row["clean_accuracy"] for row in window] for window in (best, latest))
    if not _clearly_higher(best_accuracy, accuracy):
        return []
    alarms = []
    for reward in (name for name in records[0].columns if name != "accuracy"):
        key = f"rewards/{reward}/mean"
        if all(key in row for row in (*latest, *best)):
            before, now = (
                [_paid(row, key, "clean_accuracy", reward in gated) for row in window] for window in (best, latest)
            )
            if _clearly_higher(now, before):
                fall = f"from {fmean(best_accuracy):.1%} to {fmean(accuracy):.1%}"
                words = f"in training accuracy fell {fall} while {reward}"
                alarms.append(_hacking_alarm(words, reward, reward in gated, fmean(before), fmean(now), records))
    return alarms


def unpaid_rewards(rows: Sequence[Metrics], weights: Mapping[str, float]) -> list[str]:
    """A warning for each reward of the mix that paid nothing in a whole run, or decided nothing of what was learnt.

    The second: its `advantage_share` was 0 in every step while another reward's was not. Without advantages, as in SFT,
    nothing is said.

    Args:
        rows: the metrics of all steps.
        weights: reward -> its weight; rewards of weight 0 are only measured.
    """
    steps, warnings = [row for row in rows if "reward" in row], []
    for name in (name for name, weight in weights.items() if weight and steps):
        means = [row[key] for row in steps if (key := f"rewards/{name}/mean") in row]
        if not any(means) and not any(row.get(f"rewards/{name}/std") for row in steps):
            why = "was 0 for every completion" if means else "applied to no completion"
            warnings.append(f"reward {name!r} paid nothing in the whole run: it {why}; rlvid probe shows what it pays")
        elif _decided_nothing(name, steps):
            why = "in each group it was the same for all, or differed only as the others do; rlvid probe shows which"
            warnings.append(f"reward {name!r} decided nothing, its advantage_share was 0 in every step: {why}")
    return warnings


def _decided_nothing(reward: str, steps: Sequence[Metrics]) -> bool:
    """Whether some rewards had a share in the advantages of the steps, and this one had none."""
    prefix = "advantage_share/"
    decisive = {key for row in steps for key in row if key.startswith(prefix) and row[key] > NO_SHARE}
    return bool(decisive) and f"{prefix}{reward}" in steps[-1] and f"{prefix}{reward}" not in decisive


def rewards_of_right_answers_only(records: Sequence[GroupRecord]) -> set[str]:
    """The rewards that paid nothing for any wrong answer of a step; empty if no answer is wrong."""
    names = records[0].columns.keys() if records else ()
    wrong = [(r, i) for r in records for i, answer in enumerate(r.answers) if answer != r.gold]
    return {name for name in names if not any(r.columns[name][i] for r, i in wrong)} if wrong else set()


def find_example(reward: str, records: Sequence[GroupRecord]) -> str:
    """The id of the sample whose wrong answer the reward scores highest, before any gate; "" if there is none."""
    best: tuple[float, str] | None = None
    for r in records:
        scores = r.evidence.get(f"agreement/{reward}") or r.columns.get(reward, [])  # agreement: the score ungated
        for score, answer in zip(scores, r.answers, strict=False):
            if score is not None and answer != r.clean and (best is None or score > best[0]):
                best = (score, r.id)
    return best[1] if best else ""


def _hacking_alarm(
    words: str, reward: str, gated: bool, before: float, now: float, records: Sequence[GroupRecord]
) -> Alarm:
    per = ", per right answer," if gated else ""
    return Alarm("hacking", f"{words}{per} rose from {before:.2f} to {now:.2f}", find_example(reward, records))


def _paid(row: Metrics, key: str, accuracy: str, gated: bool) -> float:
    """A reward's mean, or its mean per right answer if it is gated."""
    return row[key] / row[accuracy] if gated and row[accuracy] else row[key]


def _clearly_higher(high: Sequence[float], low: Sequence[float]) -> bool:
    """Whether one mean exceeds the other by more than three standard errors of their difference."""
    standard_error = ((variance(low) + variance(high)) / WINDOW) ** 0.5
    return fmean(high) - fmean(low) > 3 * standard_error


def _reward_of(key: str, level: str) -> str:
    """The reward whose mean on a held-out level a metric is; "" if it is another metric.

    Others are accuracy, also that under a view, the mean score of answers that are numbers, and what a gate did.
    """
    prefix = f"eval/{level}/"
    reward = key.removeprefix(prefix) if key.startswith(prefix) else ""
    is_other = reward in ("accuracy", "score") or reward.endswith("/accuracy") or reward.startswith("gate/")
    return "" if is_other else reward
