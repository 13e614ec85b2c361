"""What is kept in place of a cancelled reward: hand-made groups in which the right answer is known, and real ones."""

import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from rlvid import probe
from rlvid.config import load
from rlvid.probes.groups import measure_groups
from rlvid.probes.render import replacement_text, report
from rlvid.probes.replacement import candidates, choose_replacement, find_replacement
from rlvid.probes.statistics import rank_correlation, ranks
from rlvid.probes.subject import Scored, Subject
from rlvid.registry import build
from rlvid.types import Completion, Group, Prompt

RIGHT = [[1.0, 1.0, 0.0, 0.0]] * 2
BONUS = [[0.3, 0.3, 0.0, 0.0], [0.1, 0.1, 0.0, 0.0]]  # the same for all right replies of a group: cancelled
ECHO = [[1.0, 0.2, 0.0, 0.0], [0.6, 0.1, 0.0, 0.0]]  # follows the bonus from group to group, and tells replies apart
OTHER = [[0.2, 0.9, 0.0, 0.0], [0.9, 0.3, 0.0, 0.0]]  # tells right replies apart by something else
TWICE = [[0.6, 0.6, 0.0, 0.0], [0.2, 0.2, 0.0, 0.0]]  # says exactly the same: cancelled, too


def scored(column):
    """Two groups of two right and two wrong replies, with a column."""
    prompt = Prompt("q", "What next?", ("a pan", "a cup"), "B")
    groups = [Group(prompt, [Completion("B" if one else "A") for one in row]) for row in RIGHT]
    return Scored(groups, column, {"accuracy": RIGHT}, seconds=0.0)


def test_the_reward_is_named_that_says_the_same_and_is_kept():
    assert "rescue" in measure_groups(scored(BONUS), with_interval=False), "the bonus is cancelled"
    found = choose_replacement(scored(BONUS), {"other": OTHER, "echo": ECHO, "twice": TWICE}, 1.0)
    assert (found["tried"], found["kept"], found["reward"]) == (3, 2, "echo")
    assert found["given_right"] == pytest.approx(2 / np.sqrt(4 * 5)), "centered ranks: 1 1 -1 -1 and 1.5 -.5 .5 -1.5"
    assert found["correlation"] == pytest.approx(spearmanr(np.ravel(BONUS), np.ravel(ECHO))[0])
    assert found["share"] >= 0.01
    assert replacement_text(found) == (
        f"echo (share {found['share']:.2f}): rank correlation +0.45 among right and among wrong replies, "
        f"{found['correlation']:+.2f} over all"
    )


def test_a_reward_that_only_shares_accuracy_is_no_replacement():
    found = choose_replacement(scored(BONUS), {"other": OTHER, "twice": TWICE}, 1.0)
    assert (found["kept"], found["reward"], found["nearest"]) == (1, None, "other")
    assert found["given_right"] < 0.3 < found["correlation"], "over all replies it correlates, as all that pays right"
    assert replacement_text(found).startswith(
        "of 1 shipped rewards that are kept none says the same; the nearest is other"
    )


def test_nothing_is_named_if_all_others_are_cancelled():
    found = choose_replacement(scored(BONUS), {"twice": TWICE, "unknown": [[None] * 4] * 2}, 1.0)
    assert found == {"tried": 2, "kept": 0, "reward": None}
    assert replacement_text(found) == "none of 2 shipped rewards"


def test_ranks_share_ties_and_leave_out_what_is_unknown():
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=50).astype(float), rng.integers(5, size=50).astype(float)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b)[0])
    b[:10] = np.nan
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a[10:], b[10:])[0])
    assert np.isnan(ranks(b)[:10]).all()


def test_variants_and_rewards_with_the_same_evidence_are_candidates():
    temporal = candidates(Subject.read("grounding_temporal", {"bonus": 0.5}, load("nano"), timeout=30))
    assert temporal["grounding_temporal margin=true"].margin and temporal["grounding_temporal margin=true"].bonus == 0.5
    assert temporal["grounding_counterfactual view=shuffled"].view == "shuffled"
    assert "soft_accuracy" not in temporal, "it needs evidence that the probe does not make"
    nli = candidates(Subject.read("consistency_nli", {}, load("nano"), timeout=30))
    assert {"consistency_nli hard=true", "consistency_embedding"} <= {*nli}
    assert not {"consistency_judge", "accuracy", "random", "consistency_nli"} & {*nli}


class Gated:
    """Pays right replies a little for what another reward says: beside accuracy, normalization cancels it."""

    needs = frozenset({"column:accuracy", "narrations"})

    def __init__(self, reward, size):
        self.reward, self.size = reward, size

    def __call__(self, groups):
        return [
            [(right or 0.0) * self.size * (value or 0.0) for right, value in zip(group["accuracy"], row, strict=True)]
            for group, row in zip(groups, self.reward(groups), strict=True)
        ]


@pytest.mark.parametrize(
    ("name", "options"), [("consistency_rule", {"gated": False}), ("grounding_moves", {})], ids=["rule", "moves"]
)
def test_on_real_replies_a_faint_reward_gets_the_one_that_it_was_made_of(name, options):
    start = time.process_time()
    result = probe(Gated(build("rewards", name, **options), 0.1))
    assert time.process_time() - start < 20
    found = result["groups"].numbers["replacement"]
    assert result["groups"].failed[0].threshold == "groups.min_share"
    assert found["reward"] == name and found["share"] >= 0.01
    shown = [getattr(part, "renderable", part) for part in report(result)]
    assert any(str(part).startswith(f"what is kept instead   {name} (share 0.") for part in shown)


def test_a_reward_that_is_kept_needs_no_other_one():
    assert "replacement" not in probe("format")["groups"].numbers


def test_a_reward_that_refuses_the_replies_is_no_candidate():
    """Narrations with times and no frame rate: `grounding_timestamps` ends a run on them, but not another's probe."""
    timed = {"task_progress_metadata": [{"start_frame": 0, "stop_frame": 8, "narration_text": "take a pan"}]}
    prompt = Prompt("q", "What next?", ("a pan", "a cup"), "B", narrations=("take a pan",), meta=timed)
    replies = [f"<think>{text}</think><answer>B</answer>" for text in ("take a pan", "a cup", "pan", "no")]
    groups = [Group(prompt, [Completion(reply) for reply in replies])] * 4
    columns = [[1.0, 0.0, 0.0, 1.0]] * 4, {"accuracy": [[1.0, 1.0, 0.0, 0.0]] * 4}
    subject = Subject.read("grounding_narrations", {}, load("nano"), timeout=30)
    found = find_replacement(subject, Scored(groups, *columns, seconds=0.0), 1.0)
    assert "grounding_timestamps" in candidates(subject)
    assert found["tried"] == len(candidates(subject)) - 1
