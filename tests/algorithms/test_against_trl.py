"""Our losses against TRL's own, on the same tensors, in float32. Where we differ on purpose, that is shown."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from rlvid.nano.model import tokenizer
from rlvid.registry import build
from tests.helpers.toy import batch_of, step_of

P, G, T = 3, 4, 7
MASK = (torch.arange(T) < torch.tensor([7, 2, 4, 1, 3, 5, 6, 2, 7, 7, 1, 3])[:, None]).float()
REWARDS = torch.tensor([[1.0, 0.0, 0.2, 1.2], [0.0, 0.0, 1.0, 0.0], [1.2, 1.2, 0.2, 0.0]], dtype=torch.float64)


def tensors():
    random = torch.Generator().manual_seed(0)
    logps = -torch.rand(P * G, T, generator=random) * 3
    old, ref = (logps + 0.5 * torch.randn(P * G, T, generator=random) for _ in range(2))
    return logps, old, ref


def trainer(kind, config, folder, rewards=1, **settings):
    """A real trainer around a tiny text model; only the forward that yields log-probabilities is answered by us."""
    words = tokenizer()
    shape = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    Qwen2ForCausalLM(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
    model = Qwen2ForCausalLM.from_pretrained(folder)  # from a folder, because TRL reloads the reference from there
    args = config(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=P * G,
        num_generations=G, max_completion_length=T, **settings,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": "tomato"}] * P)
    made = kind(
        model, [lambda completions, **_: [0.0] * len(completions)] * rewards, args, data, processing_class=words
    )
    made.current_gradient_accumulation_steps = 1
    return made


def theirs(made, advantages, logps, old, ref):
    """TRL's loss and its gradient with respect to the log-probabilities."""
    leaf = logps.clone().requires_grad_()
    made._get_per_token_logps_and_entropies = lambda *args, **kwargs: (leaf, entropy(leaf), None)
    ids = torch.ones(P * G, T, dtype=torch.long)
    loss = made._compute_loss(
        made.model,
        {
            "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": MASK,
            "advantages": advantages.flatten().float(), "old_per_token_logps": old, "ref_per_token_logps": ref,
            "old_logps": (old * MASK).sum(-1), "num_items_in_batch": MASK.sum(),
        },
    )  # fmt: skip
    loss.backward()
    return loss.item(), leaf.grad


def entropy(logps):
    """Some function of the log-probabilities with a gradient: what it is does not matter."""
    return logps.sin().square()


def ours(algorithm, logps, old, ref):
    """Our loss and the same gradient."""
    leaf, batch = logps.clone().requires_grad_(), batch_of(algorithm, REWARDS, MASK)
    batch.old_logps, batch.ref_logps = old, ref
    loss = (algorithm.loss(leaf, batch.with_outputs(T, entropy(leaf), batch.mask))[0] * batch.weights).sum()
    loss.backward()
    return loss.item(), leaf.grad


def assert_equal(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5, abs=1e-6)
    assert torch.allclose(one[1], other[1], rtol=1e-5, atol=1e-7)


CASES = {
    "grpo": ({"beta": 0.04}, {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False}),
    "grpo corrected kl": ({"beta": 0.04, "kl": "k3_is"}, {"loss_type": "grpo", "beta": 0.04}),
    "grpo clip higher": ({"beta": 0.0, "epsilon_high": 0.28}, {"loss_type": "grpo", "epsilon_high": 0.28}),
    "grpo two-sided": ({"beta": 0.0, "delta": 1.1}, {"loss_type": "grpo", "delta": 1.1}),
    "dr_grpo": ({"horizon": T}, {"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "dapo": ({}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dapo entropy bonus": ({"entropy_coef": 0.1}, {"loss_type": "dapo", "epsilon_high": 0.28, "entropy_coef": 0.1}),
    "gspo": ({}, {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}),
    "cispo": ({}, {"loss_type": "cispo", "epsilon_high": 5.0}),
    "sapo": ({}, {"loss_type": "sapo"}),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_trls(case, tmp_path):
    fields, settings = CASES[case]
    algorithm = build("algorithms", case.split()[0], **fields)
    made = trainer(GRPOTrainer, GRPOConfig, tmp_path, **settings)
    assert_equal(ours(algorithm, *tensors()), theirs(made, algorithm.advantages(REWARDS), *tensors()))


def test_rloo_is_trls(tmp_path):
    algorithm, made = build("algorithms", "rloo"), trainer(RLOOTrainer, RLOOConfig, tmp_path, beta=0.0)
    assert_equal(ours(algorithm, *tensors()), theirs(made, algorithm.advantages(REWARDS), *tensors()))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_are_trls(scale, tmp_path):
    """TRL's own generate-and-score, with rewards that we choose."""
    made = trainer(GRPOTrainer, GRPOConfig, tmp_path, scale_rewards=scale)
    made.reward_funcs[0] = lambda completions, **_: REWARDS.flatten().tolist()
    rows = [{"prompt": "tomato"}] * (P * G)
    expected = made._generate_and_score_completions(rows)["advantages"]
    credit = build("algorithms", "grpo", scale_rewards=scale).advantages(REWARDS).flatten().float()
    assert torch.allclose(credit, expected, rtol=1e-5, atol=1e-6)


def test_normalize_then_sum_is_trls(tmp_path):
    """GDPO: each reward z-scored in its group, summed by weight, whitened over the step; one does not always apply."""
    second = torch.rand(P, G, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    second[0, 1] = second[2, 3] = float("nan")
    settings = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.3]}
    made = trainer(GRPOTrainer, GRPOConfig, tmp_path, rewards=2, **settings)
    for i, column in enumerate((REWARDS, second)):
        values = [None if value != value else value for value in column.flatten().tolist()]
        made.reward_funcs[i] = lambda completions, values=values, **_: values
    expected = made._generate_and_score_completions([{"prompt": "tomato"}] * (P * G))["advantages"]
    algorithm = build("algorithms", "grpo", multi_objective_aggregation="normalize_then_sum")
    step = step_of(REWARDS, torch.ones(P * G, 1), reward_weights={"accuracy": 1.0, "second": 0.3})
    credit = algorithm.credit(replace(step, columns={"accuracy": REWARDS, "second": second})).advantages[:, 0]
    assert torch.allclose(credit, expected, rtol=1e-5, atol=1e-6)


def test_on_purpose_our_token_mean_does_not_depend_on_the_micro_batch(tmp_path):
    """TRL's `bnpo` divides by each micro-batch's own tokens: cut in two, the same step has another gradient."""
    algorithm, (logps, old, ref) = build("algorithms", "dapo", epsilon_high=0.2), tensors()
    batch = batch_of(algorithm, REWARDS, MASK)
    batch.old_logps = old
    whole = (algorithm.loss(logps, batch)[0] * batch.weights).sum().item()
    parts = [batch.select_groups(chosen, P) for chosen in ([0], [1, 2])]
    rows = [logps[: 1 * G], logps[1 * G :]]
    cut = [(algorithm.loss(row, part)[0] * part.weights).sum().item() for row, part in zip(rows, parts, strict=True)]
    assert sum(cut) == pytest.approx(whole)
    local = [
        (algorithm.loss(row, part)[0] * part.mask).sum() / part.mask.sum()
        for row, part in zip(rows, parts, strict=True)
    ]
    assert abs(torch.stack(local).mean().item() - whole) > 1e-3
    assert ref is not None


def test_on_purpose_our_default_kl_is_uncorrected(tmp_path):
    """TRL 1.16 multiplies k3 by the ratio by default (`use_bias_correction_kl`, our `k3_is`); ours is GRPO's own."""
    algorithm = build("algorithms", "grpo", beta=0.04)
    made = trainer(GRPOTrainer, GRPOConfig, tmp_path, loss_type="grpo", beta=0.04, use_bias_correction_kl=True)
    mine, trl = ours(algorithm, *tensors()), theirs(made, algorithm.advantages(REWARDS), *tensors())
    assert abs(mine[0] - trl[0]) > 1e-4
