"""Noise-robust algorithms that replace the label, the baseline or the judge, and what they remember between steps."""

import json
import math
from dataclasses import replace

import pytest
import torch

from algorithms._robust import majority_vote, verdicts_by_label
from rlvid.errors import UserError
from rlvid.registry import build
from tests.helpers import toy
from tests.helpers.steps import NOISE_CHANNELS, advantages_of, answer_step, flip, success_groups, verdict_step

WITH_MEMORY = [*(pytest.param(name, {"estimate": True}, id=name) for name in NOISE_CHANNELS)]
WITH_MEMORY += [
    pytest.param(name, options, id=name) for name, options in [("olr", {"warmup_steps": 0}), ("soft_label", {})]
]

# --- Labels


def test_a_majority_vote_does_not_depend_on_the_order():
    assert majority_vote(["B", "A", "B", None]) == "B" and majority_vote([None, None, "C"]) == "C"
    assert majority_vote(["A", "B"]) is majority_vote(["B", "A"]) is majority_vote([None]) is None
    assert verdicts_by_label(answer_step(["AB-", "BBB"], "AA"), ["A", None]).tolist() == [[1, 0, 0], [0, 0, 0]]


def test_ttrl_reads_no_label():
    answers = ["AABC", "ABAB", "----"]
    advantages = advantages_of("ttrl", answer_step(answers, "BBB"))
    assert torch.equal(advantages, advantages_of("ttrl", answer_step(answers, "CAD")))
    assert torch.allclose(advantages[0], advantages_of("grpo", answer_step(["AABC"], "A"))[0])
    assert not advantages[1:].any()
    assert build("algorithms", "ttrl").labels(answer_step(answers, "BBB")) == ["A", None, None]


def test_ttrl_reinforces_any_majority_right_or_wrong():
    policy = toy.ToyPolicy()
    toy.train_toy(policy, build("algorithms", "ttrl"))
    assert policy.logits.softmax(-1)[:, 0].max(-1).values.mean() > 0.9
    assert policy.accuracy() < 0.6


def test_olr_refines_labels_whose_majority_is_stable_and_rising():
    memory, olr = {}, build("algorithms", "olr", warmup_steps=1)

    def labels_after_visit(answers, labels, number):
        step = answer_step(answers, labels, number, memory)
        olr.observe(step)
        return olr.labels(step)

    #       rising        falling      too few      unstable     tied first
    first = ["BBBBACD-", "BBBBBBAC", "BBACD---", "BBBBACDD", "AAAABBBB"]
    later = ["BBBBBACD", "BBBBBACD", "BBBACD--", "AAAAAACD", "BBBBBACD"]
    flat = ["BBBBBBBB"] * 5
    assert labels_after_visit(first, "AAACA", 1) == ["A", "A", "A", "C", "A"], "warm-up, and one visit"
    assert labels_after_visit(later, "AAACA", 2) == ["B", "A", "A", "C", "A"]
    assert labels_after_visit(flat, "AAACA", 3) == ["B", "B", "B", "C", "B"]
    assert labels_after_visit(flat, "AAACA", 4) == ["B", "B", "B", "C", "B"], "flat: refined labels stay, none is new"
    assert all(len(visits) == 2 for visits in memory["visits"].values())

    step = answer_step(["AB"] * 5, "AAACA", 5, memory)
    advantages = olr.credit(step).advantages.reshape(5, 2)[:, 1]
    assert advantages.tolist() == pytest.approx([0.70701] * 3 + [0] + [0.70701], abs=1e-4)


def test_olr_corrects_wrong_labels_of_the_toy_quiz():
    """A third of the labels is always wrong; the wrong letter is one that the policy is unlikely to choose."""
    policy, memory = toy.ToyPolicy(questions=24), {}
    with torch.no_grad():
        policy.logits[torch.arange(24), 0, policy.right] = 1.5
    olr, right = build("algorithms", "olr", warmup_steps=2), [toy.LETTERS[w] for w in policy.right]
    labels = [toy.LETTERS[(w + 1) % 5] if i % 3 == 0 else toy.LETTERS[w] for i, w in enumerate(policy.right.tolist())]
    generator = torch.Generator().manual_seed(0)
    for number in range(1, 9):
        with torch.no_grad():
            policy.logits[torch.arange(24), 0, policy.right] += 0.3  # like a policy that learns from the right labels
        rows = torch.multinomial(policy.logits[:, 0].softmax(-1), 8, replacement=True, generator=generator)
        step = answer_step(["".join(toy.LETTERS[w] for w in row) for row in rows], labels, number, memory)
        olr.observe(step)
    refined = zip(olr.labels(step), right, labels, strict=True)
    corrected = [new == clean for new, clean, given in refined if new != given]
    assert len(corrected) >= 6 and all(corrected)


def test_soft_labels_are_between_the_label_and_the_votes():
    answers = ["AAABBC--"]

    def rewards_and_labels(**options):
        algorithm, step = build("algorithms", "soft_label", **options), answer_step(answers, "B")
        algorithm.observe(step)
        return algorithm.rewards(step)[0].tolist(), algorithm.labels(step)

    assert rewards_and_labels(eta=0.0) == ([0, 0, 0, 1, 1, 0, 0, 0], ["B"])
    votes = {"A": 0.5 / 4 + 0.5 * 3 / 6, "B": 0.5 / 4 + 0.5 * 2 / 6, "C": 0.5 / 4 + 0.5 * 1 / 6, "D": 0.5 / 4}
    rewards, labels = rewards_and_labels(eta=0.75)
    assert rewards == pytest.approx([votes[c] for c in "AAABBC"] + [0, 0]) and labels == ["A"]
    rewards, labels = rewards_and_labels(eta=0.3)
    total = 0.7 * votes["B"] + 0.1 * (1 - votes["B"])
    assert rewards[0] == pytest.approx(0.1 * votes["A"] / total)
    assert rewards[3] == pytest.approx(0.7 * votes["B"] / total)
    sharp, _ = rewards_and_labels(eta=0.75, tau=20.0)
    assert sharp[0] > 0.99, "as in ttrl"
    with pytest.raises(UserError, match=r"eta must be in \[0, 0.75\]"):
        build("algorithms", "soft_label", eta=0.8)
    assert build("algorithms", "soft_label", options=26).options == 26
    with pytest.raises(UserError, match="options must be from 2 to 26, not 27"):
        build("algorithms", "soft_label", options=27)
    unproducible = build("algorithms", "soft_label").posteriors(answer_step(answers, ["E"]))
    assert unproducible == [dict.fromkeys("ABCD", 0.25)], "a label that is none of the options has no effect"


def test_a_prompt_twice_in_a_step_is_one_visit_of_olr():
    """Two groups of one prompt: 3 of 4 and 4 of 4 answer B. As two visits this was a stable and rising majority."""
    olr, memory = build("algorithms", "olr", warmup_steps=0), {}
    step = answer_step(["BBBC", "BBBB"], "AA", memory=memory, ids=["x", "x"])
    olr.observe(step)
    assert memory["visits"] == {"x": [["B", 7 / 8]]} and olr.labels(step) == ["A", "A"]


def test_a_prompt_twice_in_a_step_is_one_visit_of_soft_label():
    """All eight answers, four of them B, count alike; as two visits, the later group would count twice as much."""
    for answers in (["BBBB", "AACC"], ["AACC", "BBBB"]):
        memory = {}
        build("algorithms", "soft_label").observe(answer_step(answers, "AA", memory=memory, ids=["q", "q"]))
        assert memory["votes"] == {"q": {"A": 0.25, "B": 0.375, "C": 0.25, "D": 0.125}}


def test_soft_labels_are_computed_in_logs():
    """170 visits at which all answer B: the share of A is .25 * .01^170, which float64 rounds to 0."""
    soft, memory = build("algorithms", "soft_label", eta=0.0, decay=0.01), {}
    for _ in range(170):
        step = answer_step(["BBBB"], "A", memory=memory)
        soft.observe(step)
    assert memory["votes"]["q0"]["A"] == 0 and soft.posteriors(step)[0] == {"A": 1, "B": 0, "C": 0, "D": 0}
    sharp = build("algorithms", "soft_label", eta=0.75, tau=400.0).posterior(
        "A", {"A": 0.1, "B": 0.1, "C": 0.05, "D": 0}
    )
    assert [sharp[c] for c in "ABCD"] == pytest.approx([0.5, 0.5, 0, 0])


@pytest.mark.parametrize("name, settings", [("soft_label", {}), ("s_grpo", {"wrong_labels": 0.3})])
def test_an_answer_beyond_the_options_is_refused(name, settings):
    """Its right answers would be paid 0 or less."""
    if name == "s_grpo":
        settings = settings | {"false_positives": 0.1, "false_negatives": 0.1}
    step = answer_step(["EEAB"], "E")
    with pytest.raises(ValueError, match=r"sample q0 has an option E, but options is 4: set algorithm\.options"):
        advantages_of(name, step, **settings)
    assert advantages_of(name, step, **settings, options=5)[0, 0] > 0


def test_soft_labels_follow_the_votes_over_time():
    memory, soft = {}, build("algorithms", "soft_label")
    posterior_of_a = []
    for number in range(1, 6):
        step = answer_step(["AAAAAAAB"], "B", number, memory)
        soft.observe(step)
        posterior_of_a.append(soft.posteriors(step)[0]["A"])
    assert posterior_of_a == sorted(posterior_of_a) and posterior_of_a[-1] > posterior_of_a[0] + 0.05
    assert memory["votes"]["q0"]["A"] == pytest.approx(7 / 8 - (7 / 8 - 1 / 4) * 0.5**5)


# --- Baselines and judges


def test_the_median_baseline_is_guarded_in_one_sided_groups():
    mc_grpo = build("algorithms", "mc_grpo")
    one_sided, balanced = success_groups()[[1]], success_groups()[[4]]
    deviation = one_sided - one_sided.median(-1, keepdim=True).values
    published = deviation / (deviation.abs().median(-1, keepdim=True).values + 1e-3)
    assert published.max().item() == pytest.approx(1000)
    assert mc_grpo.advantages(one_sided)[0].tolist() == pytest.approx([1 / (math.sqrt(1 / 8) + 1e-3)] + [0] * 7)
    assert mc_grpo.advantages(success_groups()).abs().max() < 3
    assert mc_grpo.advantages(balanced)[0].tolist() == pytest.approx([1 / 1.002] * 4 + [-1 / 1.002] * 4)
    halfway = torch.tensor([[0.0, 0.2, 0.6, 0.8]], dtype=torch.float64)  # median .4, of |.4 .2 .2 .4| .3
    assert mc_grpo.advantages(halfway)[0].tolist() == pytest.approx([d / 0.301 for d in (-0.4, -0.2, 0.2, 0.4)])
    varied = torch.tensor([[0.0, 0.1, 0.3, 0.7, 0.9]], dtype=torch.float64)
    expected = [(reward - 0.3) / (0.3 + 1e-3) for reward in varied[0].tolist()]
    assert mc_grpo.advantages(varied)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("jitter", [1e-6, 1e-3, 3e-3, 0.03, 0.1])
def test_the_median_baseline_is_guarded_in_nearly_one_sided_groups(jitter):
    """A small second reward makes MAD small but not 0: the published formula gives 399 for one success in eight."""
    example = torch.tensor([[1, 0.004, 0.002, 0, 0.002, 0.003, 0, 0.001]], dtype=torch.float64)
    deviation = example - example.quantile(0.5)
    assert (deviation / (deviation.abs().quantile(0.5) + 1e-3)).max().item() == pytest.approx(399, abs=1)
    noise = torch.rand(50, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rewards = torch.cat([example, (success_groups() + jitter * noise).flatten(0, 1)])
    advantages = build("algorithms", "mc_grpo").advantages(rewards)
    z = (rewards - rewards.quantile(0.5, dim=-1, keepdim=True)) / rewards.std(-1, keepdim=True)
    assert (advantages.abs() <= 2 * z.abs()).all()
    assert advantages[0, 0].item() == pytest.approx(1 / math.sqrt(1 / 8), rel=0.02)
    one_success = (rewards > 0.5).sum(-1) == 1
    medians = advantages[one_success].abs().median(-1).values
    assert (medians < 3 * jitter + 0.02).all(), "jitter earns much less than a success"


def test_a_quantile_baseline_credits_the_minority_side():
    """p <= 1 - K: only successes have credit; otherwise only failures."""
    advantages = build("algorithms", "qae").advantages(success_groups())
    for count in range(1, 8):
        positive, negative = (advantages[count] > 0).sum().item(), (advantages[count] < 0).sum().item()
        assert (positive, negative) == ((count, 0) if count / 8 <= 0.6 else (0, 8 - count))
    assert advantages[2, 0].item() == pytest.approx(1 / (math.sqrt(12 / 8 / 7) + 1e-4))
    assert (build("algorithms", "qae", quantile=1.0).advantages(success_groups()) <= 0).all()


def test_trust_grpo_equals_hand_computed_values():
    outcome = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.float64)
    judge = torch.tensor([[0.9, 0.5, 0.4, 0.2], [0.1, 0.3, 0.6, 0.8], [1, 0, 1, 0], [1, 0, 1, 0]], dtype=torch.float64)
    step = verdict_step(outcome, reward_weights={"accuracy": 1.0, "judge": 0.3, "format": 0.5}, number=50)
    step.columns |= {"judge": judge, "format": torch.ones_like(judge)}
    trust, fade = build("algorithms", "trust_grpo", horizon=100.0), 0.3 * math.exp(-0.5)
    gamma = torch.tensor([[1.0], [math.exp(0.2 - 0.7)], [0.0], [0.0]])
    assert torch.allclose(trust.rewards(step), outcome + 0.5 + gamma * fade * judge)
    judge[0, 1] = float("nan")
    judge[1, :2] = float("nan")
    assert torch.allclose(trust.rewards(step)[0], outcome[0] + 0.5 + fade * torch.tensor([0.9, 0, 0.4, 0.2]))
    assert torch.equal(trust.rewards(step)[1], outcome[1] + 0.5), "no right completion was judged"
    with pytest.raises(ValueError, match="there is no reward 'juge' in the mix, only accuracy, judge, format"):
        build("algorithms", "trust_grpo", judged=("juge",)).rewards(step)


def test_trust_grpo_compares_gated_rewards_before_their_gate():
    """The judge likes the wrong completions better by 0.6; behind the gate they score 0 and gamma would be 1."""
    outcome = torch.tensor([[1.0, 1, 0, 0]], dtype=torch.float64)
    agreement = torch.tensor([[0.1, 0.3, 0.9, 0.7]], dtype=torch.float64)
    step = verdict_step(outcome, reward_weights={"accuracy": 1.0, "consistency": 0.3}, number=50)
    step.columns["consistency"] = outcome * agreement
    trust, fade = build("algorithms", "trust_grpo", horizon=100.0), 0.3 * math.exp(-0.5)
    assert torch.allclose(trust.rewards(step), outcome + fade * outcome * agreement), "nothing was recorded: gamma is 1"
    step = replace(step, agreements={"consistency": agreement})
    assert torch.allclose(trust.rewards(step), outcome + math.exp(-0.6) * fade * outcome * agreement)


# --- Memory


@pytest.mark.parametrize("name, options", WITH_MEMORY)
def test_memory_survives_json_and_credit_only_reads_it(name, options):
    algorithm, generator, memory = build("algorithms", name, **options), torch.Generator().manual_seed(3), {}

    def random_step(number, memory):
        letters = torch.randint(4, (6, 8), generator=generator).tolist()
        answers = ["".join("AABBD-"[min(c + i % 3, 5)] for c in row) for i, row in enumerate(letters)]
        return answer_step(answers, "ABCDAB", number, memory)

    for number in range(1, 13):
        step = random_step(number, memory)
        step.columns["accuracy"] = flip(step.columns["accuracy"], torch.tensor(0.2), torch.tensor(0.2), generator)
        algorithm.observe(step)
    saved = json.dumps(memory)
    assert memory and json.loads(saved) == memory

    last = random_step(13, memory)
    answers = ["".join(letter or "-" for letter in row) for row in last.answers]
    resumed = answer_step(answers, "ABCDAB", 13, json.loads(saved))
    for step in (last, resumed):
        algorithm.observe(step)
    advantages, noted = algorithm.credit(last).advantages, json.dumps(memory)
    assert torch.equal(advantages, algorithm.credit(resumed).advantages)
    algorithm.credit(last.without_reward("accuracy"))
    assert json.dumps(memory) == noted == json.dumps(resumed.memory)

    without_memory = answer_step(answers, "ABCDAB", 13)
    algorithm.observe(without_memory)
    assert not torch.equal(advantages, algorithm.credit(without_memory).advantages), "the memory has an effect"
