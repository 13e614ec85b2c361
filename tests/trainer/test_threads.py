"""Two threads: the same bits in every run, also after a resume."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from rlvid.policy.packing import packed_hidden_states
from tests.helpers.runs import stop_after, train

BACKWARD_PASSES = 40


@pytest.fixture(autouse=True)
def two_threads():
    """Two threads inside of a test, whatever the others have."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_gradients_of_states_that_many_completions_share_have_the_same_bits_every_time(policy, prompts):
    """The prompt's last state predicts the first token of all 200 completions: threads must not add in any order."""
    inputs, hidden = policy.encode(prompts[-1]), []
    hook = policy.model.model.language_model.register_forward_hook(lambda *call: hidden.append(call[2]))
    try:
        states, _ = packed_hidden_states(policy, [inputs], [[[5, 6]] * 200])
    finally:
        hook.remove()
    output = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
    gradients = [
        torch.autograd.grad(states, hidden[0].last_hidden_state, output, retain_graph=True)[0]
        for _ in range(BACKWARD_PASSES)
    ]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(kitchen, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    settings = ["train.max_steps=2", "train.save_steps=1", "eval.splits=['L1']"]
    train(whole, *settings, "eval.limit=1")
    assert torch.get_num_threads() == 2
    shutil.copytree(whole, resumed)
    stop_after(resumed, 1)
    train(resumed, *settings, "eval.limit=1", resume=True)
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    one, other = (load_file(run / "checkpoints/step-000002/model.safetensors") for run in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
