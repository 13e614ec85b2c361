"""Noise-robust algorithms: hand values, unbiasedness by enumeration, what is remembered, and what changes nothing."""

import json
import math
from itertools import product

import pytest
import torch

from algorithms._robust import majority_vote, verdict_correlation, verdicts_by_label
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.trainer.noop_check import enumerate_verdicts, noop_warning
from tests.helpers import toy

RATES = {"false_positives": 0.1, "false_negatives": 0.2}
J = 0.7
CHANNELS = ["s_grpo", "backward", "forward", "noise_corrected_grpo", "noise_corrected_dr_grpo"]
REMEMBERING = [*(pytest.param(name, {"estimate": True}, id=name) for name in CHANNELS)]
REMEMBERING += [
    pytest.param(name, fields, id=name) for name, fields in [("olr", {"warmup_steps": 0}), ("soft_label", {})]
]


def successes(of: int = 8) -> torch.Tensor:
    """(of + 1, of): one group for each number of successes, which come first."""
    return (torch.arange(of) < torch.arange(of + 1)[:, None]).double()


def step(rewards, **more):
    """A step of (P, G) verdicts with one token for each completion."""
    return toy.step_of(rewards, torch.ones(rewards.numel(), 1), **more)


def credit(name, at, **fields):
    """(P, G) advantages of a step."""
    algorithm = build("algorithms", name, **fields)
    algorithm.observe(at)
    return algorithm.credit(at).advantages.reshape(next(iter(at.columns.values())).shape)


def noisy(clean, false_positives, false_negatives, random):
    """Verdicts that a verifier with these rates gives."""
    flip = torch.rand(clean.shape, generator=random) < torch.where(clean > 0, false_negatives, false_positives)
    return torch.where(flip, 1 - clean, clean)


def asked(answers, labels, number=1, memory=None, **more):
    """A step of groups with these answers, letters in a string with `-` for none, judged by these labels."""
    letters = [[None if c == "-" else c for c in row] for row in answers]
    right = [[float(c == label) for c in row] for row, label in zip(letters, labels, strict=True)]
    return step(
        torch.tensor(right, dtype=torch.float64), answers=letters, labels=list(labels), number=number,
        memory={} if memory is None else memory, **more,
    )  # fmt: skip


# --- S-GRPO


def test_s_grpos_weights():
    """The published table for groups of 8, and the released formula against the correlation that it is."""
    rewards, p = successes(), torch.tensor(0.1, dtype=torch.float64)
    weights = verdict_correlation(rewards, p, p)[:, 0]
    assert weights.tolist() == pytest.approx([0, 0.42, 0.72, 0.79, 0.80, 0.79, 0.72, 0.42, 0], abs=0.006)
    mean = rewards.mean(-1)
    t = ((mean - p) / (1 - 2 * p)).clamp(0, 1)
    released = (1 - 2 * p) * t * (1 - t) / (((mean * (1 - mean)).sqrt() + 1e-8) * ((t * (1 - t)).sqrt() + 1e-8))
    assert torch.allclose(weights, released, atol=1e-6)
    assert verdict_correlation(rewards, 2 * p, 2 * p)[[1, 7], 0].tolist() == [0, 0]
    z = (rewards - mean[:, None]) / (rewards.std(-1, keepdim=True) + 1e-8)
    assert torch.allclose(credit("s_grpo", step(rewards)), (weights[:, None] * z).float(), atol=1e-6)


def test_the_weight_is_the_correlation_of_clean_and_noisy():
    share, (fp, fn) = 0.3, RATES.values()
    joint = {(1, 1): share * (1 - fn), (1, 0): share * fn, (0, 1): (1 - share) * fp, (0, 0): (1 - share) * (1 - fp)}
    seen = sum(p for (_, verdict), p in joint.items() if verdict)
    correlation = (joint[1, 1] - share * seen) / math.sqrt(share * (1 - share) * seen * (1 - seen))
    group = torch.zeros(1, 100, dtype=torch.float64)
    group[:, : round(100 * seen)] = 1
    assert verdict_correlation(group, torch.tensor(fp), torch.tensor(fn)).item() == pytest.approx(correlation, abs=1e-6)


def test_s_grpo_shrinks_the_outcome_alone():
    outcome, form = successes()[[8, 4]], torch.tensor([[1.0, 0] * 4, [0, 1] * 4], dtype=torch.float64)
    at = step(outcome, reward_weights={"accuracy": 1.0, "format": 0.5})
    at.columns["format"] = form
    total = outcome + 0.5 * form
    flat, mixed = credit("s_grpo", at)
    spread = total.std(-1) + 1e-8
    assert torch.allclose(flat, (0.5 * (form[0] - 0.5) / spread[0]).float())
    wanted = (0.8 * (outcome[1] - 0.5) + 0.5 * (form[1] - 0.5)) / spread[1]
    assert torch.allclose(mixed, wanted.float(), atol=1e-6)
    assert torch.equal(credit("s_grpo", at.without_reward("accuracy"))[0], credit("s_grpo", at.without_reward("accuracy"))[1].flip(0))


# --- Corrections


def test_backward_and_forward_in_expectation():
    """E[r^ | clean] = clean; E[w | right] = 0, E[w | wrong] = -J."""
    verdicts = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    unbiased = build("algorithms", "backward", **RATES).corrected_verdicts(step(verdicts))[0]
    weight = build("algorithms", "forward", **RATES).rewards(step(verdicts))[0]
    assert weight.tolist() == pytest.approx([RATES["false_negatives"] - 1, RATES["false_negatives"]])
    for clean, accepted in ((0, RATES["false_positives"]), (1, 1 - RATES["false_negatives"])):
        chance = torch.tensor([1 - accepted, accepted], dtype=torch.float64)
        assert (chance * unbiased).sum().item() == pytest.approx(clean)
        assert (chance * weight).sum().item() == pytest.approx(0 if clean else -J)


def test_the_expected_gradient_of_a_bandit_is_the_clean_one():
    """Over all actions and verdicts of a group of 3: backward is the clean gradient, forward J of it, less centring."""
    logits, right = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), 1
    policy, (fp, fn) = logits.softmax(0), RATES.values()
    slope = torch.eye(3, dtype=torch.float64) - policy  # of log pi(action) with respect to the logits

    def gradient(name, noise, **fields):
        groups = list(product(range(3), repeat=3))
        total = torch.zeros(3, dtype=torch.float64)
        for actions, verdicts in product(groups, product((0.0, 1.0), repeat=3)):
            accepted = [(1 - fn if noise else 1.0) if a == right else (fp if noise else 0.0) for a in actions]
            chance = math.prod(p if v else 1 - p for p, v in zip(accepted, verdicts, strict=True))
            chance *= math.prod(policy[a].item() for a in actions)
            worth = credit(name, step(torch.tensor([verdicts], dtype=torch.float64)), **fields)[0].double()
            total += chance * (worth[:, None] * slope[list(actions)]).mean(0)
        return total

    clean = gradient("dr_grpo", noise=False)
    assert torch.allclose(gradient("backward", noise=True, **RATES), clean, atol=1e-6)
    assert torch.allclose(gradient("dr_grpo", noise=True), J * clean, atol=1e-6), "a learning rate would do, too"
    assert torch.allclose(gradient("forward", noise=True, **RATES), J * 3 / 2 * clean, atol=1e-6)


def test_forward_by_hand_in_a_mix():
    at = step(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), reward_weights={"accuracy": 2.0, "format": 1.0})
    at.columns["format"] = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])
    wanted = [[2 * 0.2 + 0.5, 2 * -0.8 - 0.5], [2 * -0.8, 2 * -0.8]]
    assert credit("forward", at, **RATES).tolist() == [pytest.approx(row) for row in wanted]


def test_noise_corrected_grpo_by_hand():
    """z / w: what S-GRPO multiplies with, this divides by."""
    rewards = successes()[2:7]
    fp, fn = torch.tensor(RATES["false_positives"]), torch.tensor(RATES["false_negatives"])
    z = (rewards - rewards.mean(-1, keepdim=True)) / rewards.std(-1, keepdim=True)
    wanted = z / verdict_correlation(rewards, fp, fn, least=1 / 8)
    assert torch.allclose(credit("noise_corrected_grpo", step(rewards), **RATES), wanted.float(), rtol=1e-3)
    t = (2 / 8 - 0.1) / J
    by_hand = (6 / 8 / J) / (math.sqrt(8 / 7 * t * (1 - t)) + 1e-4)
    assert credit("noise_corrected_grpo", step(rewards), **RATES)[0, 0].item() == pytest.approx(by_hand, rel=1e-6)
    everything = successes()
    assert torch.allclose(credit("noise_corrected_grpo", step(everything)), credit("grpo", step(everything)), rtol=1e-5)
    assert credit("noise_corrected_grpo", step(everything), false_positives=0.3, false_negatives=0.3).abs().max() < 9


def test_rates_by_letter():
    at = step(torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64), labels=["A", "B", "C"])
    rates = {"A": [0.1, 0.2], "B": [0.0, 0.5]}
    worth = credit("noise_corrected_dr_grpo", at, rates=rates, false_negatives=0.2)
    assert worth[:, 0].tolist() == pytest.approx([0.5 / 0.7, 0.5 / 0.5, 0.5 / 0.8])
    with pytest.raises(UserError, match="sum to less than 1"):
        build("algorithms", "noise_corrected_grpo", rates={"A": [0.6, 0.4]})
    with pytest.raises(UserError, match=r"rates.A must be \[false positives, false negatives\]"):
        build("algorithms", "noise_corrected_grpo", rates={"A": 0.6})


def test_rates_are_counted():
    """Replies that share a letter outvote an erring verifier: nearly right in groups of 16, a third short in 3s."""
    random, memory = torch.Generator().manual_seed(1), {}
    fields = {"estimate": True, "rates": {"B": [0.3, 0.3]}, "false_positives": 0.4}
    algorithm = build("algorithms", "noise_corrected_dr_grpo", **fields)

    def verdicts(prompts, size, of="AB"):
        answers = [["A"] * size + ["B"] * size for _ in range(prompts)]
        labels = [of[i % len(of)] for i in range(prompts)]
        clean = torch.tensor([[float(c == label) for c in row] for row, label in zip(answers, labels, strict=True)])
        rates = torch.tensor([[0.05, 0.2] if label == "A" else [0.15, 0.1] for label in labels]).double()
        flipped = noisy(clean.double(), rates[:, :1], rates[:, 1:], random)
        return step(flipped, answers=answers, labels=labels, memory=memory)

    first = verdicts(2, 16)
    algorithm.observe(first)
    assert torch.cat(algorithm.error_rates(first), 1).tolist() == [[0.4, 0.0], [0.3, 0.3]], (
        "not yet 100 verdicts of a letter"
    )
    for _ in range(20):
        algorithm.observe(verdicts(24, 16))
    counted = torch.cat(algorithm.error_rates(first), 1)
    assert torch.allclose(counted, torch.tensor([[0.05, 0.2], [0.15, 0.1]]).double(), atol=0.02)
    one = build("algorithms", "backward", estimate=True)
    assert torch.cat(one.error_rates(first), 1).tolist() == [pytest.approx([0.1, 0.15], abs=0.02)] * 2
    memory.clear()
    for _ in range(100):
        algorithm.observe(verdicts(24, 3))
    short = algorithm.error_rates(first)[1][0].item()
    assert short == pytest.approx((0.2 * 0.8**2 + 0.2**2 * 0.8) * 1, abs=0.02) and short < 0.18


def test_a_wrong_label_is_invisible_to_the_count():
    memory = {}
    algorithm = build("algorithms", "backward", estimate=True, **RATES)
    for _ in range(20):
        algorithm.observe(asked(["AAAABBBB"] * 4, "AABB", memory=memory))
    assert torch.cat(algorithm.error_rates(asked(["AB"], "A", memory=memory)), 1).tolist() == [[0, 0]]


# --- What changes nothing


@pytest.mark.parametrize("scale", ["group", "batch"])
@pytest.mark.parametrize("rates", [{**RATES}, {"false_positives": 0.35, "false_negatives": 0.05}])
def test_z_scores_undo_a_correction_bit_for_bit(scale, rates):
    at = enumerate_verdicts("accuracy", {"accuracy": 0.7}, 8)
    corrected = credit("backward", at, scale_rewards=scale, **rates)
    assert torch.equal(corrected, credit("dr_grpo", at, scale_rewards=scale)) and corrected.dtype == torch.float32


def test_no_ops_are_named():
    def says(name, mix=None, generations=8, **fields):
        return noop_warning(build("algorithms", name, **fields), mix or {"accuracy": 1.0}, generations)

    same = "algorithm 'backward' is a no-op here: whatever the verdicts, its credit is that of 'dr_grpo'"
    assert says("backward", scale_rewards="group", **RATES) == same
    assert says("backward", scale_rewards="group", generations=16, **RATES) == same
    assert says("backward", **RATES) == f"{same} times 1.43, as with a larger learning rate"
    assert (
        says("backward", beta=0.1, **RATES) == f"{same} times 1.43, as with a larger learning rate and a smaller beta"
    )
    assert says("backward", estimate=True).startswith(f"{same} times the counted 1 / J")
    assert says("backward", {"accuracy": 1.0, "format": 0.0}, scale_rewards="batch", **RATES) == same
    assert "that of 'grpo'" in says("s_grpo", false_positives=0.0, false_negatives=0.0)
    assert "that of 'grpo'" in says("trust_grpo", {"accuracy": 1.0, "format": 0.2}), "nothing is judged"


@pytest.mark.parametrize(
    "name, mix, fields",
    [
        ("backward", {"accuracy": 1.0, "format": 0.2}, RATES),
        ("backward", {"accuracy": 1.0, "format": 0.2}, {**RATES, "scale_rewards": "group"}),
        ("forward", {"accuracy": 1.0}, RATES),
        ("noise_corrected_dr_grpo", {"accuracy": 1.0}, {"rates": {"A": [0.1, 0.2]}}),
        ("noise_corrected_dr_grpo", {"accuracy": 1.0}, {"estimate": True}),
        ("noise_corrected_grpo", {"accuracy": 1.0}, RATES),
        ("s_grpo", {"accuracy": 1.0}, {}),
        ("trust_grpo", {"accuracy": 1.0, "judge": 0.3}, {}),
        ("olr", {"accuracy": 1.0}, {}),
        ("grpo", {"accuracy": 1.0}, {}),
    ],
)
def test_what_is_not_a_no_op(name, mix, fields):
    assert noop_warning(build("algorithms", name, **fields), mix, 8) is None


def test_the_proof_leaves_the_generator_alone():
    before = torch.random.get_rng_state()
    noop_warning(build("algorithms", "backward", estimate=True), {"accuracy": 1.0, "format": 0.2}, 12)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_outcome_must_be_there_and_binary():
    with pytest.raises(UserError, match="algorithm 'backward': there is no reward 'accuracy' in the mix, only format"):
        noop_warning(build("algorithms", "backward"), {"format": 1.0}, 4)
    for name in ("ttrl", "olr", "soft_label"):
        with pytest.raises(ValueError, match="there is no reward 'right' in the mix"):
            credit(name, step(successes()[[2]]), outcome="right")
    with pytest.raises(ValueError, match="'accuracy' must be 0 or 1"):
        credit("s_grpo", step(torch.tensor([[0.5, 1.0]])))
    with pytest.raises(UserError, match="not on its z-scores"):
        build("algorithms", "backward", multi_objective_aggregation="normalize_then_sum")
    with pytest.raises(UserError, match='scale_rewards must be "group"'):
        build("algorithms", "s_grpo", scale_rewards="none")


# --- Labels


def test_majority_is_not_positional():
    assert majority_vote(["B", "A", "B", None]) == "B" and majority_vote([None, None, "C"]) == "C"
    assert majority_vote(["A", "B"]) is majority_vote(["B", "A"]) is majority_vote([None]) is None
    assert verdicts_by_label(asked(["AB-", "BBB"], "AA"), ["A", None]).tolist() == [[1, 0, 0], [0, 0, 0]]


def test_ttrl_reads_no_label():
    answers = ["AABC", "ABAB", "----"]
    worth = credit("ttrl", asked(answers, "BBB"))
    assert torch.equal(worth, credit("ttrl", asked(answers, "CAD")))
    assert torch.allclose(worth[0], credit("grpo", asked(["AABC"], "A"))[0]) and not worth[1:].any()
    assert build("algorithms", "ttrl").labels(asked(answers, "BBB")) == ["A", None, None]


def test_ttrl_reinforces_whichever_majority_it_finds():
    student = toy.Toy()
    toy.learn(student, build("algorithms", "ttrl"))
    assert student.table.softmax(-1)[:, 0].max(-1).values.mean() > 0.9
    assert student.accuracy() < 0.6


def test_olr_refines_what_is_stable_and_rising():
    memory, olr = {}, build("algorithms", "olr", warmup_steps=1)

    def visit(answers, labels, number):
        at = asked(answers, labels, number, memory)
        olr.observe(at)
        return olr.labels(at)

    #       rising        falling      too few      unstable     tied first
    first = ["BBBBACD-", "BBBBBBAC", "BBACD---", "BBBBACDD", "AAAABBBB"]
    later = ["BBBBBACD", "BBBBBACD", "BBBACD--", "AAAAAACD", "BBBBBACD"]
    assert visit(first, "AAACA", 1) == ["A", "A", "A", "C", "A"], "warm-up, and one visit"
    assert visit(later, "AAACA", 2) == ["B", "A", "A", "C", "A"]
    assert visit(["BBBBBBBB"] * 5, "AAACA", 3) == ["B", "B", "B", "C", "B"]
    assert visit(["BBBBBBBB"] * 5, "AAACA", 4) == ["B", "B", "B", "C", "B"], "flat: what is refined stays, no more is"
    assert all(len(visits) == 2 for visits in memory["visits"].values())
    at = asked(["AB"] * 5, "AAACA", 5, memory)
    assert olr.credit(at).advantages.reshape(5, 2)[:, 1].tolist() == pytest.approx(
        [0.70701] * 3 + [0] + [0.70701], abs=1e-4
    )


def test_olr_puts_wrong_labels_right_on_the_toy():
    """A third of the labels is wrong for good; the wrong letter is not one that the policy is likely to say."""
    student, memory = toy.Toy(questions=24), {}
    with torch.no_grad():
        student.table[torch.arange(24), 0, student.right] = 1.5
    olr, labels = build("algorithms", "olr", warmup_steps=2), [toy.LETTERS[w] for w in student.right]
    wrong = [toy.LETTERS[(w + 1) % 5] if i % 3 == 0 else toy.LETTERS[w] for i, w in enumerate(student.right.tolist())]
    random = torch.Generator().manual_seed(0)
    for number in range(1, 9):
        with torch.no_grad():
            student.table[torch.arange(24), 0, student.right] += 0.3  # as a policy that learns from the others
        rows = torch.multinomial(student.table[:, 0].softmax(-1), 8, replacement=True, generator=random)
        at = asked(["".join(toy.LETTERS[w] for w in row) for row in rows], wrong, number, memory)
        olr.observe(at)
    changed = [got == label for got, label, given in zip(olr.labels(at), labels, wrong, strict=True) if got != given]
    assert len(changed) >= 6 and all(changed)


def test_soft_labels_between_the_label_and_the_votes():
    answers = ["AAABBC--"]

    def worth(**fields):
        algorithm, at = build("algorithms", "soft_label", **fields), asked(answers, "B")
        algorithm.observe(at)
        return algorithm.rewards(at)[0].tolist(), algorithm.labels(at)

    assert worth(eta=0.0) == ([0, 0, 0, 1, 1, 0, 0, 0], ["B"])
    votes = {"A": 0.5 / 4 + 0.5 * 3 / 6, "B": 0.5 / 4 + 0.5 * 2 / 6, "C": 0.5 / 4 + 0.5 * 1 / 6, "D": 0.5 / 4}
    earned, labels = worth(eta=0.75)
    assert earned == pytest.approx([votes[c] for c in "AAABBC"] + [0, 0]) and labels == ["A"]
    earned, labels = worth(eta=0.3)
    total = 0.7 * votes["B"] + 0.1 * (1 - votes["B"])
    assert earned[0] == pytest.approx(0.1 * votes["A"] / total) and earned[3] == pytest.approx(0.7 * votes["B"] / total)
    sharp, _ = worth(eta=0.75, tau=20.0)
    assert sharp[0] > 0.99, "ttrl"
    with pytest.raises(UserError, match=r"eta must be in \[0, 0.75\]"):
        build("algorithms", "soft_label", eta=0.8)
    silent = build("algorithms", "soft_label").posteriors(asked(answers, ["E"]))
    assert silent == [dict.fromkeys("ABCD", 0.25)], "a label that no option has says nothing"


def test_soft_labels_come_round_with_the_votes():
    memory, soft = {}, build("algorithms", "soft_label")
    seen = []
    for number in range(1, 6):
        at = asked(["AAAAAAAB"], "B", number, memory)
        soft.observe(at)
        seen.append(soft.posteriors(at)[0]["A"])
    assert seen == sorted(seen) and seen[-1] > seen[0] + 0.05
    assert memory["votes"]["q0"]["A"] == pytest.approx(7 / 8 - (7 / 8 - 1 / 4) * 0.5**5)


# --- Baselines and judges


def test_the_median_baseline_has_no_trap():
    one_sided, balanced = successes()[[1]], successes()[[4]]
    deviation = one_sided - one_sided.median(-1, keepdim=True).values
    published = deviation / (deviation.abs().median(-1, keepdim=True).values + 1e-3)
    assert published.max().item() == pytest.approx(1000)
    guarded = build("algorithms", "mc_grpo").advantages(one_sided)
    assert guarded[0].tolist() == pytest.approx([1 / (math.sqrt(1 / 8) + 1e-3)] + [0] * 7)
    everything = build("algorithms", "mc_grpo").advantages(successes())
    assert everything.abs().max() < 3
    assert build("algorithms", "mc_grpo").advantages(balanced)[0].tolist() == pytest.approx(
        [1 / 1.002] * 4 + [-1 / 1.002] * 4
    )
    spread = torch.tensor([[0.0, 0.1, 0.3, 0.7, 0.9]], dtype=torch.float64)
    assert build("algorithms", "mc_grpo").advantages(spread)[0].tolist() == pytest.approx(
        [(r - 0.3) / (0.3 + 1e-3) for r in spread[0].tolist()]
    )


@pytest.mark.parametrize("jitter", [1e-6, 1e-3, 3e-3, 0.03, 0.1])
def test_a_nearly_one_sided_group_is_guarded_too(jitter):
    """A small second reward makes MAD small but not 0: the published formula's 399 for one success in eight."""
    known = torch.tensor([[1, 0.004, 0.002, 0, 0.002, 0.003, 0, 0.001]], dtype=torch.float64)
    deviation = known - known.quantile(0.5)
    assert (deviation / (deviation.abs().quantile(0.5) + 1e-3)).max().item() == pytest.approx(399, abs=1)
    noise = torch.rand(50, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rewards = torch.cat([known, (successes() + jitter * noise).flatten(0, 1)])
    credit = build("algorithms", "mc_grpo").advantages(rewards)
    z = (rewards - rewards.quantile(0.5, dim=-1, keepdim=True)) / rewards.std(-1, keepdim=True)
    assert (credit.abs() <= 2 * z.abs()).all() and credit[0, 0].item() == pytest.approx(1 / math.sqrt(1 / 8), rel=0.02)
    one = (rewards > 0.5).sum(-1) == 1
    assert (credit[one].abs().median(-1).values < 3 * jitter + 0.02).all(), "jitter is not worth a success"


def test_a_quantile_baseline_credits_the_minority_side():
    """p <= 1 - K: successes only; otherwise failures only."""
    worth = build("algorithms", "qae").advantages(successes())
    for count in range(1, 8):
        up, down = (worth[count] > 0).sum().item(), (worth[count] < 0).sum().item()
        assert (up, down) == ((count, 0) if count / 8 <= 0.6 else (0, 8 - count))
    assert worth[2, 0].item() == pytest.approx(1 / (math.sqrt(12 / 8 / 7) + 1e-4))
    assert (build("algorithms", "qae", quantile=1.0).advantages(successes()) <= 0).all()


def test_trust_by_hand():
    outcome = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.float64)
    judge = torch.tensor([[0.9, 0.5, 0.4, 0.2], [0.1, 0.3, 0.6, 0.8], [1, 0, 1, 0], [1, 0, 1, 0]], dtype=torch.float64)
    at = step(outcome, reward_weights={"accuracy": 1.0, "judge": 0.3, "format": 0.5}, number=50)
    at.columns |= {"judge": judge, "format": torch.ones_like(judge)}
    trust, fade = build("algorithms", "trust_grpo", horizon=100.0), 0.3 * math.exp(-0.5)
    gamma = torch.tensor([[1.0], [math.exp(0.2 - 0.7)], [0.0], [0.0]])
    assert torch.allclose(trust.rewards(at), outcome + 0.5 + gamma * fade * judge)
    judge[0, 1] = float("nan")
    judge[1, :2] = float("nan")
    assert torch.allclose(trust.rewards(at)[0], outcome[0] + 0.5 + fade * torch.tensor([0.9, 0, 0.4, 0.2]))
    assert torch.equal(trust.rewards(at)[1], outcome[1] + 0.5), "no right reply was judged"
    with pytest.raises(ValueError, match="there is no reward 'juge' in the mix, only accuracy, judge, format"):
        build("algorithms", "trust_grpo", judged=("juge",)).rewards(at)


# --- Memory


@pytest.mark.parametrize("name, fields", REMEMBERING)
def test_memory_survives_json_and_credit_is_a_pure_read(name, fields):
    algorithm, random, memory = build("algorithms", name, **fields), torch.Generator().manual_seed(3), {}

    def drawn(number, memory):
        letters = torch.randint(4, (6, 8), generator=random).tolist()
        answers = ["".join("AABBD-"[min(c + i % 3, 5)] for c in row) for i, row in enumerate(letters)]
        return asked(answers, "ABCDAB", number, memory)

    for number in range(1, 13):
        at = drawn(number, memory)
        at.columns["accuracy"] = noisy(at.columns["accuracy"], torch.tensor(0.2), torch.tensor(0.2), random)
        algorithm.observe(at)
    kept = json.dumps(memory)
    assert memory and json.loads(kept) == memory
    last = drawn(13, memory)
    again = asked(["".join(c or "-" for c in row) for row in last.answers], "ABCDAB", 13, json.loads(kept))
    for at in (last, again):
        algorithm.observe(at)
    worth, noted = algorithm.credit(last).advantages, json.dumps(memory)
    assert torch.equal(worth, algorithm.credit(again).advantages)
    algorithm.credit(last.without_reward("accuracy"))
    assert json.dumps(memory) == noted == json.dumps(again.memory)
    fresh = asked(["".join(c or "-" for c in row) for row in last.answers], "ABCDAB", 13)
    algorithm.observe(fresh)
    assert not torch.equal(worth, algorithm.credit(fresh).advantages), "what was remembered matters"
