"""Losses and gradients of the preference algorithms compared with those of TRL's trainers, on the same tensors."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from rlvid.nano.model import build_tokenizer
from rlvid.registry import build
from tests.helpers.preference_losses import MASK, P, T, margins, our_loss, tensors

CHOSEN_THEN_REJECTED = [0, 2, 4, 6, 1, 3, 5, 7]  # our rows in the order of TRL's DPO


def make_trainer(trainer_class, config_class, rows, folder, **settings):
    """Return a TRL trainer around a tiny text model; `trl_loss` replaces its forward pass."""
    tokenizer = build_tokenizer()
    shape = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    Qwen2ForCausalLM(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
    args = config_class(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", precompute_ref_log_probs=True,
        disable_dropout=False, **settings,
    )  # fmt: skip
    model = Qwen2ForCausalLM.from_pretrained(folder)
    return trainer_class(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def forward_output(logps, mask):
    """Return what TRL's loss reads of a forward pass; it only logs the fields other than the log-probabilities."""
    return SimpleNamespace(log_probs=logps * mask, entropy=mask, mean_logits=mask, is_top1=mask.bool())


def trl_loss(trainer, order, mismatched=None, **inputs):
    """Return TRL's loss and its gradient for our rows in this order.

    `mismatched` are (8, T + 1) log-probabilities of KTO's mismatched pairs, which TRL's second forward pass returns.
    """
    leaf = tensors()[0].requires_grad_()
    ids = torch.ones(2 * P, T + 1, dtype=torch.long)
    mask = torch.nn.functional.pad(MASK[order], (1, 0)).long()
    inputs |= {"input_ids": ids, "attention_mask": ids, "completion_mask": mask}
    outputs_by_length = {T + 1: forward_output(leaf[order], MASK[order])}
    if mismatched is not None:
        outputs_by_length[T + 2] = forward_output(mismatched, torch.ones(1))
    trainer.model = SimpleNamespace(training=True)
    loss = trainer._compute_loss(lambda **call: outputs_by_length[call["input_ids"].shape[1]], inputs, False)
    loss.backward()
    return loss.item(), leaf.grad


def trl_dpo_loss(folder, **settings):
    """Return the loss and the gradient of TRL's DPOTrainer."""
    row = {"prompt": "tomato", "chosen": " A", "rejected": " B"}
    trainer = make_trainer(DPOTrainer, DPOConfig, [row] * 2, folder, **settings)
    chosen, rejected = (tensors()[1] * MASK).sum(-1)[CHOSEN_THEN_REJECTED].chunk(2)
    return trl_loss(trainer, CHOSEN_THEN_REJECTED, ref_chosen_logps=chosen, ref_rejected_logps=rejected)


@pytest.mark.parametrize(
    "name, fields, settings",
    [
        ("dpo", {}, {"loss_type": "sigmoid"}),
        ("ipo", {}, {"loss_type": "ipo"}),
        ("rdpo", {"label_smoothing": 0.2}, {"loss_type": "robust", "label_smoothing": 0.2}),
    ],
)
def test_loss_and_gradient_equal_those_of_trl(name, fields, settings, tmp_path):
    ours = our_loss(build("algorithms", name, beta=0.3, **fields))
    loss, gradient = trl_dpo_loss(tmp_path, beta=0.3, **settings)
    assert ours[0] == pytest.approx(loss, rel=1e-5) and torch.allclose(ours[1], gradient, rtol=1e-5, atol=1e-7)


def test_the_sigmoid_loss_of_trl_does_not_read_label_smoothing_and_cdpo_does(tmp_path):
    plain, smoothed = (trl_dpo_loss(tmp_path / str(e), beta=0.5, label_smoothing=e) for e in (0.0, 0.3))
    assert smoothed[0] == plain[0] and torch.equal(smoothed[1], plain[1])
    ours, h = our_loss(build("algorithms", "cdpo", beta=0.5, label_smoothing=0.3)), 0.5 * margins()
    assert ours[0] == pytest.approx((-0.7 * logsigmoid(h) - 0.3 * logsigmoid(-h)).mean().item())
    assert abs(ours[0] - smoothed[0]) > 0.01
    without_smoothing = our_loss(build("algorithms", "cdpo", beta=0.5, label_smoothing=0.0))
    assert without_smoothing[0] == pytest.approx(plain[0])


@pytest.mark.parametrize("z0", [-0.7, 0.9])
def test_kto_equals_that_of_trl_for_the_same_kl_estimate(z0, tmp_path):
    rows = [{"prompt": "tomato", "completion": f" {letter}", "label": letter == "A"} for letter in "AB"]
    fields = {"beta": 0.3, "desirable_weight": 1.3, "undesirable_weight": 0.8}
    trainer = make_trainer(KTOTrainer, KTOConfig, rows, tmp_path, **fields, per_device_train_batch_size=2)
    ids = torch.ones(2 * P, T + 2, dtype=torch.long)
    loss, gradient = trl_loss(
        trainer,
        list(range(2 * P)),
        label=torch.tensor([True, False] * P),
        ref_logps=(tensors()[1] * MASK).sum(-1),
        ref_KL_logps=torch.zeros(2 * P),
        mismatched=torch.full((2 * P, T + 1), z0 / (T + 1)),
        KL_input_ids=ids,
        KL_attention_mask=ids,
        KL_completion_mask=ids,
    )
    sampled = tensors()[1] + z0 * MASK / MASK.sum(-1, keepdim=True)  # so that our estimate is also z0
    ours = our_loss(build("algorithms", "kto", **fields), sampled_logps=sampled)
    assert ours[0] == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(ours[1], gradient, rtol=1e-4, atol=1e-6)
    assert ours[2]["kl"] == pytest.approx(max(z0, 0), rel=1e-5)
