"""Preferences: who is compared with whom, every loss by hand and against TRL's own trainers, pairs from files."""

import json
import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from rlvid.data import preferences
from rlvid.errors import UserError
from rlvid.nano.model import tokenizer
from rlvid.registry import build
from rlvid.types import Prompt
from tests.helpers import toy

P, T = 4, 6
MASK = (torch.arange(T) < torch.tensor([6, 2, 4, 1, 3, 5, 6, 2])[:, None]).float()  # 4 groups: the chosen, the rejected
BEST_FIRST = torch.tensor([[1.0, 0.0]] * P, dtype=torch.float64)
FAMILY = ("dpo", "ipo", "cdpo", "rdpo", "dr_dpo")


def tensors():
    """Log-probabilities of the policy and of the reference."""
    random = torch.Generator().manual_seed(0)
    logps = -torch.rand(2 * P, T, generator=random) * 3
    return logps, logps + torch.randn(2 * P, T, generator=random)


def ours(algorithm, rewards=BEST_FIRST, mask=MASK, **more):
    """Our loss, its gradient with respect to the log-probabilities, and what is logged."""
    logps, ref = tensors()
    leaf = logps.requires_grad_()
    batch = toy.batch_of(algorithm, rewards, mask, ref_logps=ref, **more)
    losses, log = algorithm.loss(leaf, batch.with_outputs(T, torch.zeros(2 * P, T), mask))
    loss = (losses * batch.weights).sum()
    loss.backward()
    return loss.item(), leaf.grad, {name: value[~value.isnan()].mean().item() for name, value in log.items()}


def h_by_hand():
    logps, ref = tensors()
    ratios = ((logps - ref) * MASK).sum(-1)
    return ratios[0::2] - ratios[1::2]


# ---- who is compared with whom


def test_best_against_worst():
    batch = toy.batch_of(
        build("algorithms", "dpo"), torch.tensor([[0.2, 1.2, 0.0, 1.0], [0.0, 0.1, 0.3, 0.2]]), torch.ones(8, 2)
    )
    assert batch.pair_weights.nonzero().tolist() == [[1, 2], [6, 0]]  # rows of the batch, places in their groups
    assert batch.advantages[:, 0].tolist() == [0, 1, -1, 0, -1, 0, 1, 0]


def test_all_pairs_share_their_groups_part():
    batch = toy.batch_of(
        build("algorithms", "dpo", pairs="all"), torch.tensor([[1.0, 0, 0, 1], [3, 2, 2, 2]]), torch.ones(8, 1)
    )
    quarter, third = 1 / 4, 1 / 3
    assert torch.allclose(
        batch.pair_weights[:4], torch.tensor([[0, quarter, quarter, 0], [0.0] * 4, [0.0] * 4, [0, quarter, quarter, 0]])
    )
    assert torch.allclose(batch.pair_weights[4:], torch.tensor([[0, third, third, third], *[[0.0] * 4] * 3]))
    assert batch.advantages[:, 0].tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5, 1, -third, -third, -third])


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("pairs", ["best_worst", "all"])
def test_a_flat_group_has_no_pair_and_no_gradient(name, pairs):
    flat = torch.tensor([[0.1 + 0.2, 0.3], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    _, gradient, log = ours(build("algorithms", name, pairs=pairs, rpo_alpha=1.0), flat)
    assert gradient[[0, 1, 4, 5]].abs().max() == 0 and gradient[[2, 3, 6, 7]].abs().sum() > 0
    assert all(math.isfinite(value) for value in log.values())


def test_a_step_without_a_pair_is_silent():
    for name in (*FAMILY, "kto"):
        loss, gradient, log = ours(build("algorithms", name), torch.ones(P, 2))
        assert loss == 0 and gradient.abs().max() == 0 and math.isnan(log["logps/chosen"])


def test_equals_are_chosen_among_by_sample_and_step_alone():
    """Each of 2 x 2 pairs as often as another; neither the others in the step nor the place among them matters."""
    algorithm, rewards = build("algorithms", "dpo"), torch.tensor([[1.0, 0.0, 1.0, 0.0]] * 4000)
    ids = [f"sample {i}" for i in range(4000)]

    def places(rewards, ids, number):
        pairs = toy.batch_of(algorithm, rewards, torch.ones(rewards.numel(), 1), ids=ids, number=number).pair_weights
        return [(int(row), int(column)) for row, column in (p.nonzero()[0] for p in pairs.view(-1, 4, 4))]

    chosen = places(rewards, ids, 1)
    assert all(900 < count < 1100 for count in Counter(chosen).values()) and len(Counter(chosen)) == 4
    assert places(rewards[:7], ids[6::-1], 1) == chosen[6::-1]
    assert 800 < sum(one == other for one, other in zip(chosen, places(rewards, ids, 2), strict=True)) < 1200


def test_a_truncated_reply_is_neither_chosen_nor_rejected():
    algorithm = build("algorithms", "dpo", mask_truncated_completions=True)
    finished = torch.tensor([[False, True, True, False]])
    batch = toy.batch_of(algorithm, torch.tensor([[1.0, 0.5, 0.2, 0.0]]), torch.ones(4, 1), finished=finished)
    assert batch.advantages[:, 0].tolist() == [0, 1, -1, 0]


def test_normalised_rewards_may_prefer_another():
    step = toy.step_of(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(4, 1), reward_weights={"accuracy": 1.0, "length": 1.0})
    step.columns["length"] = torch.tensor([[8.0, 9.5, 0.0, 0.0]])
    best = {
        way: build("algorithms", "dpo", multi_objective_aggregation=way).credit(step).advantages[:, 0].argmax().item()
        for way in ("sum_then_normalize", "normalize_then_sum")
    }
    assert best == {"sum_then_normalize": 1, "normalize_then_sum": 0}


# ---- losses by hand


def test_dpo_by_hand():
    loss, _, log = ours(build("algorithms", "dpo", beta=0.3))
    h = h_by_hand()
    assert loss == pytest.approx(-logsigmoid(0.3 * h).mean().item())
    assert log["rewards/margins"] == pytest.approx(0.3 * h.mean().item())
    assert log["rewards/accuracies"] == (h > 0).float().mean().item()
    assert log["logps/chosen"] == pytest.approx((tensors()[0] * MASK).sum(-1)[0::2].mean().item())
    assert log["rewards/chosen"] - log["rewards/rejected"] == pytest.approx(log["rewards/margins"], abs=1e-6)


def test_the_nll_term_is_per_token_and_of_the_chosen():
    plain, helped = (ours(build("algorithms", "dpo", rpo_alpha=alpha)) for alpha in (0.0, 0.5))
    likelihood = (tensors()[0] * MASK).sum(-1)[0::2] / MASK.sum(-1)[0::2]
    assert helped[0] - plain[0] == pytest.approx(-0.5 * likelihood.mean().item(), rel=1e-5)
    assert torch.equal(helped[1][1::2], plain[1][1::2])


def test_cdpo_has_its_least_value_at_a_finite_margin():
    h = torch.linspace(0, 60, 6001)
    loss = build("algorithms", "cdpo", beta=0.1, label_smoothing=0.2).pair_loss(h)
    assert h[loss.argmin()].item() == pytest.approx(math.log(0.8 / 0.2) / 0.1, abs=0.01)


def test_rdpo_is_unbiased_under_flips():
    h, robust, plain = h_by_hand(), build("algorithms", "rdpo", label_smoothing=0.3), build("algorithms", "dpo")
    assert torch.allclose(0.7 * robust.pair_loss(h) + 0.3 * robust.pair_loss(-h), plain.pair_loss(h), atol=1e-6)


@pytest.mark.parametrize("right", [0.2, 0.7])
def test_the_flip_rate_follows_from_the_verifiers_rates(right):
    """By counting: a verifier that errs at those rates, and pairs of an accepted and a refused completion."""
    algorithm, random = (
        build("algorithms", "cdpo", false_positives=0.3, false_negatives=0.4),
        torch.Generator().manual_seed(1),
    )
    truth = torch.rand(2, 400_000, generator=random) < right
    accepted = torch.rand(2, 400_000, generator=random) < torch.where(truth, 0.6, 0.3)
    told_apart = accepted[0] & ~accepted[1] & (truth[0] != truth[1])
    assert (~truth[0])[told_apart].float().mean().item() == pytest.approx(algorithm.epsilon, abs=0.005)
    assert build("algorithms", "rdpo", false_positives=0.1, false_negatives=0.2).epsilon == pytest.approx(
        0.027, abs=1e-4
    )


@pytest.mark.parametrize("beta_prime", [0.05, 1.0])
def test_dr_dpos_first_gradient_is_the_published_losss(beta_prime):
    logps, ref = tensors()
    leaf = logps.clone().requires_grad_()
    ratios = ((leaf - ref) * MASK).sum(-1)
    losses = -logsigmoid(0.5 * (ratios[0::2] - ratios[1::2]))
    (-beta_prime * torch.log(torch.mean(torch.exp(-losses / beta_prime)))).backward()
    _, gradient, _ = ours(build("algorithms", "dr_dpo", beta=0.5, beta_prime=beta_prime), sampled_logps=logps)
    assert torch.allclose(gradient, leaf.grad, atol=1e-6)
    plain = ours(build("algorithms", "dpo", beta=0.5))[1]
    assert not torch.allclose(gradient, plain, atol=1e-3)
    far = ours(build("algorithms", "dr_dpo", beta=0.5, beta_prime=1e6), sampled_logps=logps)[1]
    assert torch.allclose(far, plain, atol=1e-5)


def test_kto_by_hand():
    logps, ref = torch.tensor([[0.0], [0.0], [0.0]]), torch.tensor([[-2.0], [1.0], [0.0]])
    sampled = torch.tensor([[0.0], [0.0], [0.4]])  # log-ratios 2, -1 and 0.4: z0 is their mean
    algorithm = build("algorithms", "kto", beta=0.5, undesirable_weight=3.0)
    batch = toy.batch_of(
        algorithm, torch.tensor([[1.0, 0.0, 0.5]]), torch.ones(3, 1), ref_logps=ref, sampled_logps=sampled
    )
    z0 = (2 - 1 + 0.4) / 3
    losses, log = algorithm.loss(logps, batch)
    good, bad = 1 - torch.sigmoid(torch.tensor([0.5 * (2 - z0), 0.5 * (z0 + 1)]))
    assert losses[:, 0].tolist() == pytest.approx([good.item(), 3 * bad.item(), 0.0])
    assert log["kl"][0, 0].item() == pytest.approx(z0) and (batch.weights[:, 0] == 1 / 3).all()
    below = toy.batch_of(
        algorithm, torch.tensor([[1.0, 0.0, 0.5]]), torch.ones(3, 1), ref_logps=-ref, sampled_logps=logps
    )
    assert (below.targets == 0).all()


@pytest.mark.parametrize(
    ("policy", "published"),
    [
        ([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]], 0.1 * math.log(0.7 / 0.25) + 0.9 * math.log(0.1 / 0.25)),
        ([[0.7, 0.1, 0.1, 0.1]] * 2, 0.7 * math.log(0.7 / 0.25) + 0.3 * math.log(0.1 / 0.25)),
    ],
    ids=["prompts pull apart", "prompts pull alike"],
)
def test_ktos_divergence_is_of_own_replies_and_the_published_one_of_mismatched_pairs(policy, published):
    """Two prompts, each with ten replies of one word, in the proportions of the policy; the reference has 1/4 for each.

    Own replies give KL(pi || pi_ref), 0.446. Mismatched pairs (x_i, y_j) give, prompts having one reference, that less
    KL(pi_j || pi_i): -0.722, hence 0, or the same where prompts pull alike. Nobody is pushed the other way by it.
    """
    probs, ref = torch.tensor(policy), torch.full((20, 1), 0.25).log()
    said = torch.stack([torch.arange(4).repeat_interleave((10 * row).round().long()) for row in probs])
    own, mismatched = (probs.gather(1, words).log().view(20, 1) for words in (said, said.flip(0)))
    algorithm, rewards = build("algorithms", "kto", beta=0.5), (said == 0).double()
    batch = toy.batch_of(algorithm, rewards, torch.ones(20, 1), sampled_logps=own, ref_logps=ref)
    divergence = (probs * (probs / 0.25).log()).sum(-1).mean().item()
    assert (mismatched - ref).mean().item() == pytest.approx(published, abs=1e-6)
    assert batch.targets[0, 0].item() == pytest.approx(divergence, abs=1e-6)
    assert divergence == pytest.approx(0.446, abs=1e-3)

    def gradient(z0):
        leaf = own.clone().requires_grad_()
        return torch.autograd.grad(algorithm.loss(leaf, replace(batch, targets=z0))[0].sum(), leaf)[0]

    ours, theirs = gradient(batch.targets), gradient(torch.full((20, 1), max(published, 0.0)))
    assert torch.equal(ours.sign(), theirs.sign()) and ours.any()
    assert torch.allclose(ours, theirs) == (published > 0)


def test_kto_with_a_threshold_learns_from_a_flat_group():
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert build("algorithms", "kto", threshold=0.5).advantages(rewards).tolist() == [[1, 1], [-1, -1]]
    assert build("algorithms", "kto").advantages(rewards).tolist() == [[0, 0], [0, 0]]


def test_what_has_no_meaning_is_refused():
    with pytest.raises(UserError, match="beta is the temperature of the preference and must be above 0, not 0"):
        build("algorithms", "kto", beta=0.0)
    with pytest.raises(UserError, match="kl cannot be 'k2'"):
        build("algorithms", "dpo", kl="k2")
    with pytest.raises(UserError, match='pairs must be "best_worst" or "all"'):
        build("algorithms", "ipo", pairs="some")
    with pytest.raises(UserError, match=r"below 0\.5, not 0\.5"):
        build("algorithms", "rdpo", label_smoothing=0.5)
    with pytest.raises(UserError, match="leave preferences out"):
        build("algorithms", "dr_dpo", preferences="pairs.jsonl")


# ---- TRL's own


def trainer(kind, config, rows, folder, **settings):
    """A real trainer around a tiny text model; afterwards only its forward is answered by us."""
    words = tokenizer()
    shape = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    Qwen2ForCausalLM(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
    args = config(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", precompute_ref_log_probs=True,
        disable_dropout=False, **settings,
    )  # fmt: skip
    model = Qwen2ForCausalLM.from_pretrained(folder)
    return kind(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=words)


def forward(logps, mask):
    """What TRL's loss reads of a forward; all but the log-probabilities it only logs."""
    return SimpleNamespace(log_probs=logps * mask, entropy=mask, mean_logits=mask, is_top1=mask.bool())


def of_trl(made, order, **inputs):
    """TRL's loss and its gradient, `order` putting our rows into TRL's."""
    leaf = tensors()[0].requires_grad_()
    ids, seen = torch.ones(2 * P, T + 1, dtype=torch.long), torch.nn.functional.pad(MASK[order], (1, 0)).long()
    answer = forward(leaf[order], MASK[order])
    inputs |= {"input_ids": ids, "attention_mask": ids, "completion_mask": seen}
    answers = {T + 1: answer, T + 2: forward(inputs.pop("mismatched", leaf[order]), torch.ones(1))}
    model = SimpleNamespace(training=True)
    made.model = model
    loss = made._compute_loss(lambda **asked: answers[asked["input_ids"].shape[1]], inputs, False)
    loss.backward()
    return loss.item(), leaf.grad


ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # TRL's DPO has the chosen first, then the rejected


def trl_dpo(folder, **settings):
    row = {"prompt": "tomato", "chosen": " A", "rejected": " B"}
    made = trainer(DPOTrainer, DPOConfig, [row] * 2, folder, **settings)
    chosen, rejected = (tensors()[1] * MASK).sum(-1)[ORDER].chunk(2)
    return of_trl(made, ORDER, ref_chosen_logps=chosen, ref_rejected_logps=rejected)


@pytest.mark.parametrize(
    "name, fields, settings",
    [
        ("dpo", {}, {"loss_type": "sigmoid"}),
        ("ipo", {}, {"loss_type": "ipo"}),
        ("rdpo", {"label_smoothing": 0.2}, {"loss_type": "robust", "label_smoothing": 0.2}),
    ],
)
def test_loss_and_gradient_are_trls(name, fields, settings, tmp_path):
    mine = ours(build("algorithms", name, beta=0.3, **fields))
    loss, gradient = trl_dpo(tmp_path, beta=0.3, **settings)
    assert mine[0] == pytest.approx(loss, rel=1e-5) and torch.allclose(mine[1], gradient, rtol=1e-5, atol=1e-7)


def test_trls_sigmoid_does_not_read_label_smoothing_and_cdpo_does(tmp_path):
    plain, smoothed = (trl_dpo(tmp_path / str(e), beta=0.5, label_smoothing=e) for e in (0.0, 0.3))
    assert smoothed[0] == plain[0] and torch.equal(smoothed[1], plain[1])
    mine, h = ours(build("algorithms", "cdpo", beta=0.5, label_smoothing=0.3)), 0.5 * h_by_hand()
    assert mine[0] == pytest.approx((-0.7 * logsigmoid(h) - 0.3 * logsigmoid(-h)).mean().item())
    assert abs(mine[0] - smoothed[0]) > 0.01
    assert ours(build("algorithms", "cdpo", beta=0.5, label_smoothing=0.0))[0] == pytest.approx(plain[0])


@pytest.mark.parametrize("z0", [-0.7, 0.9])
def test_kto_is_trls_with_the_same_divergence(z0, tmp_path):
    rows = [{"prompt": "tomato", "completion": f" {letter}", "label": letter == "A"} for letter in "AB"]
    settings = {"beta": 0.3, "desirable_weight": 1.3, "undesirable_weight": 0.8, "per_device_train_batch_size": 2}
    made = trainer(KTOTrainer, KTOConfig, rows, tmp_path, **settings)
    labels = torch.tensor([True, False] * P)
    mismatched = {
        f"KL_{name}": torch.ones(2 * P, T + 2, dtype=torch.long)
        for name in ("input_ids", "attention_mask", "completion_mask")
    }
    far = torch.full((2 * P, T + 1), z0 / (T + 1))
    ref = (tensors()[1] * MASK).sum(-1)
    theirs = of_trl(
        made,
        list(range(2 * P)),
        label=labels,
        ref_logps=ref,
        ref_KL_logps=torch.zeros(2 * P),
        mismatched=far,
        **mismatched,
    )
    sampled = tensors()[1] + z0 * MASK / MASK.sum(-1, keepdim=True)  # so that our estimate is z0, too
    fields = {k: v for k, v in settings.items() if not k.startswith("per")}
    mine = ours(build("algorithms", "kto", **fields), sampled_logps=sampled)
    assert mine[0] == pytest.approx(theirs[0], rel=1e-5)
    assert torch.allclose(mine[1], theirs[1], rtol=1e-4, atol=1e-6) and mine[2]["kl"] == pytest.approx(
        max(z0, 0), rel=1e-5
    )


# ---- pairs from files


PROMPTS = [Prompt(id=name, question="?") for name in ("a", "b", "7")]


def written(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(sample, chosen="yes", rejected="no"):
    return {"id": sample, "chosen": chosen, "rejected": rejected}


def test_pairs_are_laid_on_their_prompts(tmp_path):
    both = preferences.attach(PROMPTS, written(tmp_path / "pairs.jsonl", row(7), "", row("a", "fine")))
    assert [(p.id, p.demonstration, p.rejected) for p in both] == [("a", "fine", "no"), ("7", "yes", "no")]


@pytest.mark.parametrize(
    "rows, error",
    [
        ([row("a"), row("a")], r"pairs.jsonl:2: id: a stands on an earlier line too"),
        ([row("a"), {"id": "b", "chosen": "yes"}], r"pairs.jsonl:2: rejected: missing; the record has id, chosen"),
        ([row("a", 3)], r"pairs.jsonl:1: chosen: must be str, not 3"),
        ([row("a", " ")], r"pairs.jsonl:1: chosen: is blank"),
        ([row("a", "no")], r"pairs.jsonl:1: rejected: is the same text as chosen"),
        (["{"], r"pairs.jsonl:1: no JSON in UTF-8"),
        ([row("a"), row("x"), row("y")], r"2 of 3 ids are no training sample's: x, y; remove"),
        ([], r"pairs.jsonl: holds no pair"),
    ],
)
def test_bad_pairs_are_one_clear_line(tmp_path, rows, error):
    with pytest.raises(UserError, match=error):
        preferences.attach(PROMPTS, written(tmp_path / "pairs.jsonl", *rows))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.jsonl: no such file"):
        preferences.attach(PROMPTS, tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no samples"):
        preferences.from_samples(tmp_path, tmp_path / "pairs.jsonl")


def test_pairs_from_a_runs_samples(tmp_path):
    def group(sample, totals, finished=(True,) * 3, texts=("x", "y", "z")):
        return {"id": sample, "completions": list(texts), "totals": list(totals), "finished": list(finished)}

    samples = tmp_path / "samples"
    samples.mkdir()
    written(samples / "step-000001.jsonl", group("a", (0, 1, 0.5)), group("b", (1, 1, 1)))
    again = group("a", (0.2, 0, 0.1)), group("7", (2, 1, 0), (False, True, True)), group("c", (1, 0, 0), texts="xxx")
    written(samples / "step-000002.jsonl", *again)
    written(samples / "step-000003-not-finite.jsonl", group("b", (0, 1, 2)))
    assert preferences.from_samples(tmp_path, tmp_path / "pairs.jsonl") == 2
    both = preferences.attach(PROMPTS, tmp_path / "pairs.jsonl")
    assert [(p.id, p.demonstration, p.rejected) for p in both] == [("a", "x", "y"), ("7", "y", "z")]
