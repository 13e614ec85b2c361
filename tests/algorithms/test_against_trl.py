"""Our losses and gradients compared with TRL's on the same tensors, in float32, and where ours differ on purpose."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from rlvid.nano.model import build_tokenizer
from rlvid.registry import build
from tests.helpers.toy import make_batch, make_step

P, G, T = 3, 4, 7
MASK = (torch.arange(T) < torch.tensor([7, 2, 4, 1, 3, 5, 6, 2, 7, 7, 1, 3])[:, None]).float()
REWARDS = torch.tensor([[1.0, 0.0, 0.2, 1.2], [0.0, 0.0, 1.0, 0.0], [1.2, 1.2, 0.2, 0.0]], dtype=torch.float64)


def tensors():
    """Return (B, T) log-probabilities of the policy, of the old policy and of the reference."""
    generator = torch.Generator().manual_seed(0)
    logps = -torch.rand(P * G, T, generator=generator) * 3
    old, ref = (logps + 0.5 * torch.randn(P * G, T, generator=generator) for _ in range(2))
    return logps, old, ref


def make_trainer(trainer_class, config_class, folder, rewards=1, **settings):
    """Return a TRL trainer around a tiny text model; `trl_loss` replaces its forward pass."""
    tokenizer = build_tokenizer()
    shape = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    Qwen2ForCausalLM(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
    model = Qwen2ForCausalLM.from_pretrained(folder)  # from a folder, because TRL reloads the reference from there
    args = config_class(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=P * G,
        num_generations=G, max_completion_length=T, **settings,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": "tomato"}] * P)
    reward_funcs = [lambda completions, **_: [0.0] * len(completions)] * rewards
    trainer = trainer_class(model, reward_funcs, args, data, processing_class=tokenizer)
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def trl_loss(trainer, advantages, logps, old, ref):
    """Return TRL's loss and its gradient with respect to the log-probabilities."""
    leaf = logps.clone().requires_grad_()
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (leaf, entropy(leaf), None)
    ids = torch.ones(P * G, T, dtype=torch.long)
    loss = trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": MASK,
            "advantages": advantages.flatten().float(), "old_per_token_logps": old, "ref_per_token_logps": ref,
            "old_logps": (old * MASK).sum(-1), "num_items_in_batch": MASK.sum(),
        },
    )  # fmt: skip
    loss.backward()
    return loss.item(), leaf.grad


def entropy(logps):
    """Return any function of the log-probabilities with a gradient, in place of the entropy."""
    return logps.sin().square()


def our_loss(algorithm, logps, old, ref):
    """Return our loss and the same gradient."""
    leaf, batch = logps.clone().requires_grad_(), make_batch(algorithm, REWARDS, MASK)
    batch.old_logps, batch.ref_logps = old, ref
    loss = (algorithm.loss(leaf, batch.with_outputs(T, entropy(leaf), batch.mask))[0] * batch.weights).sum()
    loss.backward()
    return loss.item(), leaf.grad


def assert_equal(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5, abs=1e-6)
    assert torch.allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-7)


CASES = {  # name: (our fields, TRL's settings)
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
def test_loss_and_gradient_equal_those_of_trl(case, tmp_path):
    fields, settings = CASES[case]
    algorithm = build("algorithms", case.split()[0], **fields)
    trainer = make_trainer(GRPOTrainer, GRPOConfig, tmp_path, **settings)
    theirs = trl_loss(trainer, algorithm.advantages(REWARDS), *tensors())
    assert_equal(our_loss(algorithm, *tensors()), theirs)


def test_rloo_equals_that_of_trl(tmp_path):
    algorithm = build("algorithms", "rloo")
    trainer = make_trainer(RLOOTrainer, RLOOConfig, tmp_path, beta=0.0)
    theirs = trl_loss(trainer, algorithm.advantages(REWARDS), *tensors())
    assert_equal(our_loss(algorithm, *tensors()), theirs)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_equal_those_of_trl(scale, tmp_path):
    """Those of TRL are from its generate-and-score, with given rewards."""
    trainer = make_trainer(GRPOTrainer, GRPOConfig, tmp_path, scale_rewards=scale)
    trainer.reward_funcs[0] = lambda completions, **_: REWARDS.flatten().tolist()
    rows = [{"prompt": "tomato"}] * (P * G)
    expected = trainer._generate_and_score_completions(rows)["advantages"]
    credit = build("algorithms", "grpo", scale_rewards=scale).advantages(REWARDS).flatten().float()
    assert torch.allclose(credit, expected, rtol=1e-5, atol=1e-6)


def test_normalize_then_sum_equals_that_of_trl(tmp_path):
    """GDPO: z-score each reward in its group, sum by weight, whiten over the step; the second reward has NaN."""
    second = torch.rand(P, G, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    second[0, 1] = second[2, 3] = float("nan")
    settings = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.3]}
    trainer = make_trainer(GRPOTrainer, GRPOConfig, tmp_path, rewards=2, **settings)
    for i, column in enumerate((REWARDS, second)):
        values = [None if value != value else value for value in column.flatten().tolist()]
        trainer.reward_funcs[i] = lambda completions, values=values, **_: values
    expected = trainer._generate_and_score_completions([{"prompt": "tomato"}] * (P * G))["advantages"]
    algorithm = build("algorithms", "grpo", multi_objective_aggregation="normalize_then_sum")
    step = make_step(REWARDS, torch.ones(P * G, 1), reward_weights={"accuracy": 1.0, "second": 0.3})
    credit = algorithm.credit(replace(step, columns={"accuracy": REWARDS, "second": second})).advantages[:, 0]
    assert torch.allclose(credit, expected, rtol=1e-5, atol=1e-6)


def test_on_purpose_our_mean_over_tokens_does_not_depend_on_the_micro_batches():
    """TRL's `bnpo` divides by the tokens of each micro-batch: split in two, the same step has another gradient."""
    algorithm, (logps, old, _) = build("algorithms", "dapo", epsilon_high=0.2), tensors()
    batch = make_batch(algorithm, REWARDS, MASK)
    batch.old_logps = old
    full = (algorithm.loss(logps, batch)[0] * batch.weights).sum().item()
    parts = [batch.select_groups(chosen, P) for chosen in ([0], [1, 2])]
    rows = [logps[: 1 * G], logps[1 * G :]]
    split = [(algorithm.loss(row, part)[0] * part.weights).sum().item() for row, part in zip(rows, parts, strict=True)]
    assert sum(split) == pytest.approx(full)
    bnpo = [
        (algorithm.loss(row, part)[0] * part.mask).sum() / part.mask.sum()
        for row, part in zip(rows, parts, strict=True)
    ]
    assert abs(torch.stack(bnpo).mean().item() - full) > 1e-3


def test_on_purpose_our_default_kl_is_uncorrected(tmp_path):
    """TRL 1.16 multiplies k3 by the ratio by default (`use_bias_correction_kl`, our `k3_is`); ours is GRPO's own."""
    algorithm = build("algorithms", "grpo", beta=0.04)
    settings = {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": True}
    trainer = make_trainer(GRPOTrainer, GRPOConfig, tmp_path, **settings)
    theirs = trl_loss(trainer, algorithm.advantages(REWARDS), *tensors())
    assert abs(our_loss(algorithm, *tensors())[0] - theirs[0]) > 1e-4
