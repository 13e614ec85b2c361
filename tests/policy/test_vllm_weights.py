"""When vLLM takes over weights; needs no vLLM."""

from rlvid.policy.vllm import weights_fingerprint


def test_weights_that_change_unseen_by_torch_have_another_fingerprint(policy):
    """As DeepSpeed writes them: the version that torch counts stays."""
    weight = policy.model.model.language_model.layers[1].mlp.up_proj.weight
    before, version, original = weights_fingerprint(policy.model), weight._version, weight.detach().clone()
    assert weights_fingerprint(policy.model) == before
    weight.data[3, 5] += 1e-6  # a small step of one weight
    try:
        assert weight._version == version and weights_fingerprint(policy.model) != before
    finally:
        weight.data.copy_(original)
