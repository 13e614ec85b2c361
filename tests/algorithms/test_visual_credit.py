"""Credit by what is seen, entropy in two stages and running scales: hand-computed values and named differences."""

import math
from dataclasses import replace

import pytest
import torch

from algorithms._visual import dependence, min_max, top_share
from algorithms.vppo import completion_factors, top_of_each
from rlvid.errors import UserError
from rlvid.registry import build
from rlvid.trainer.credit import assign_credit
from tests.helpers import toy

pytestmark = pytest.mark.fast
LN = math.log


def step_of(rewards, length, **fields):
    """A step of one group per row of rewards whose completions have `length` tokens."""
    rewards = torch.tensor(rewards, dtype=torch.float64)
    return toy.make_step(rewards, torch.ones(rewards.numel(), length), **fields)


def test_dependence_ranks_what_the_pixels_speak_against_first():
    probs, probs_under_view = torch.tensor([0.8, 0.2, 0.5]), torch.tensor([0.2, 0.8, 0.5])
    logps = probs.log().requires_grad_()
    values = dependence(logps, probs_under_view.log())
    assert values.tolist() == pytest.approx([0.636, 1.614, 0.0], abs=1e-3)
    values.sum().backward()
    assert logps.grad.tolist() == pytest.approx([0.75, -3.0, 0.0])  # 1 - p_view / p
    assert dependence(torch.tensor([-50.0, 0.0]), torch.tensor([0.0, -50.0])).tolist() == [10.0, 10.0]


def test_min_max_has_a_floor_and_reads_the_mask_only():
    values = torch.tensor([[1.0, 3.0, 2.0, 99.0], [1.0, 1.0 + 1e-7, 1.0, 5.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]] * 2)
    scaled, is_spread = min_max(values, mask, 1e-6)
    assert scaled.tolist() == [[0, 1, 0.5, 0], [0, 0, 0, 0]] and is_spread.flatten().tolist() == [True, False]


def test_key_tokens_have_a_sign_in_the_code_and_none_in_the_paper():
    full, view = torch.tensor([[-1.0, -1, -1, -1, -3]]), torch.tensor([[-2.0, -1, -1, -1, 0]])
    mask = torch.ones(1, 5)
    assert top_share(full - view, mask, 0.2).tolist() == [[1, 0, 0, 0, 0]]  # threshold 0.2
    assert top_share((full - view).abs(), mask, 0.2).tolist() == [[0, 0, 0, 0, 1]]  # threshold 1.4
    assert top_share(torch.zeros(1, 5), mask, 0.2).all(), "ties are kept"
    for absolute, token in ((False, 0), (True, 4)):
        ktr = build("algorithms", "video_ktr", criteria=("visual",), absolute=absolute)
        step = step_of([[1.0]], 5, old_logps=full, view_logps={"blank": view}, needs=ktr.needs)
        assert ktr.choose(step).nonzero().tolist() == [[0, token]]


def ktr_step(**fields):
    """Two completions of four tokens: visual picks (0, 1), temporal nothing, entropy (1, 3); the third has none."""
    full, entropy = torch.zeros(3, 4), torch.zeros(3, 4)
    full[0, 1], entropy[1, 3] = 0.5, 2.0
    nothing = torch.zeros(3, 4)
    views = {"blank": nothing, "shuffled": full.clone()}
    needs = build("algorithms", "video_ktr").needs
    step = step_of([[1.0, 0.0, 0.0]], 4, old_logps=full, view_logps=views, old_entropy=entropy, needs=needs)
    return replace(step, **fields)


def test_key_tokens_replace_the_mask_and_a_row_without_any_adds_nothing():
    ktr = build("algorithms", "video_ktr", share=0.05, beta=0.0)
    batch = assign_credit(ktr, ktr_step())
    assert batch.mask.nonzero().tolist() == [[0, 1], [1, 3]]
    assert batch.weights.sum(-1).tolist() == pytest.approx([1 / 3, 1 / 3, 0]) and batch.weights.isfinite().all()
    assert (batch.advantages != 0).equal(batch.mask > 0)
    assert ktr.extra_metrics(batch) == {"credit/selected": pytest.approx(2 / 12)}


def test_the_random_selection_has_as_many_tokens_of_each_row():
    settings = {"share": 0.4, "criteria": ("entropy",)}
    step = ktr_step()
    step.batch.mask[0, 3] = 0
    step.batch.old_entropy.copy_(torch.rand(3, 4))
    top, drawn = (build("algorithms", "video_ktr", selection=s, **settings).choose(step) for s in ("top", "random"))
    assert top.sum(-1).equal(drawn.sum(-1)) and not (drawn * (1 - step.batch.mask)).any()
    control = build("algorithms", "video_ktr", selection="random", **settings)
    assert control.choose(step).equal(drawn), "credit is computed several times"
    others = [control.choose(replace(step, number=number)) for number in range(2, 12)]
    assert any(not other.equal(drawn) for other in others) and not drawn.equal(top)


def test_completions_that_depend_on_the_pixels_get_more_credit_at_constant_mean():
    assert completion_factors(torch.tensor([0.1, 0.3]), 0.9).flatten().tolist() == pytest.approx([0.9, 1.1])
    assert completion_factors(torch.tensor([0.0, 0.0, 1.0]), 0.9).flatten().tolist() == pytest.approx([0.9, 0.9, 1.2])
    assert completion_factors(torch.tensor([0.2, 0.2 + 1e-7]), 0.9).flatten().tolist() == [1, 1]


@pytest.mark.parametrize(("share", "tokens", "count"), [(0.3, 50, 15), (0.6, 25, 15), (0.07, 100, 7), (0.4, 6, 3)])
def test_vppo_rounds_the_number_of_tokens_up_without_rounding_errors(share, tokens, count):
    assert top_of_each(torch.arange(float(tokens))[None], torch.ones(1, tokens), share).sum() == count


def test_vppo_keeps_all_of_equal_tokens():
    assert top_of_each(torch.zeros(1, 5), torch.ones(1, 5), 0.4).sum() == 5  # the released code: 2
    assert not top_of_each(torch.rand(1, 5), torch.zeros(1, 5), 0.4).any(), "nor any of no token"


def test_video_ktr_chooses_nothing_of_empty_completions():
    ktr = build("algorithms", "video_ktr", beta=0.0)
    mask = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    tensors = toy.token_tensors(ktr.needs, lambda: torch.tensor([[0.1], [0.2], [0.3], [0.4]]))
    step = toy.make_step(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), mask, ktr.needs, **tensors)
    assert ktr.credit(step).mask.flatten().tolist() == [0, 0, 0, 1]


def test_vppo_keeps_two_of_five_tokens_and_divides_by_five():
    vppo = build("algorithms", "vppo")
    view_logps = torch.log(torch.tensor([[0.5, 0.1, 0.4, 0.5, 0.2], [0.5, 0.1, 0.4, 0.5, 0.2]]))
    step = step_of([[1.0, 0.0]], 5, old_logps=torch.full((2, 5), LN(0.5)), view_logps={"patches": view_logps},
                   needs=vppo.needs)  # fmt: skip
    batch = assign_credit(vppo, step)
    assert (batch.advantages[0] > 0).tolist() == [False, True, False, False, True]
    assert torch.allclose(batch.weights, torch.full((2, 5), 0.1)), "the mean is over all tokens"
    dapo = assign_credit(build("algorithms", "dapo"), step).advantages
    assert torch.allclose(batch.advantages[batch.advantages != 0], dapo[batch.advantages != 0]), "equal rows: factor 1"
    mean = (LN(5) - 0.8 + LN(1.25) - 0.2 + LN(2.5) - 0.6) / 5  # exp(d) - d - 1 of d = ln(1/5), ln(4/5), ln(2/5)
    assert vppo.extra_metrics(batch) == {"credit/dependence": pytest.approx(mean)}


def test_pgpo_moves_credit_between_tokens_and_keeps_its_sum():
    pgpo, mask = build("algorithms", "pgpo"), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    scores = torch.tensor([[0.0, math.e - 1, math.e**2 - 1, 99.0]])
    weights = pgpo.token_weights(scores, mask)
    assert weights[0].tolist() == pytest.approx([0.0, 0.923, 2.077, 0.0], abs=1e-3)
    assert weights.sum().item() == pytest.approx(3)
    assert pgpo.token_weights(torch.full((1, 4), 0.3) + 1e-8 * torch.rand(1, 4), mask).equal(mask)


def test_the_view_of_papo_has_no_gradient_and_changes_only_the_bonus():
    papo, rewards = build("algorithms", "papo", beta=0.0), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    view_logps = (-torch.rand(2, 3)).requires_grad_()
    batch = toy.make_batch(papo, rewards, torch.ones(2, 3), view_logps={papo.view: view_logps.detach()})
    logps = (-torch.rand(2, 3)).requires_grad_()
    (papo.loss(logps, batch)[0] * batch.weights).sum().backward()
    without = replace(papo, perception_coef=0.0)
    plain = logps.detach().requires_grad_()
    (without.loss(plain, batch)[0] * batch.weights).sum().backward()
    expected = -papo.perception_coef * batch.weights * (1 - (view_logps - logps).exp())
    assert torch.allclose(logps.grad - plain.grad, expected, atol=1e-7)


def test_pa_grpo_pays_perception_at_its_block_and_the_rest_elsewhere():
    """Perception [2, 1] and reasoning [1, 2]: +-0.707 at the block, and the other way round at all other tokens."""
    algorithm = build("algorithms", "pa_grpo", beta=0.0, perception=("seen",))
    block = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])  # the second completion has none
    step = toy.make_step(
        torch.tensor([[1.0, 2.0]]).double(), torch.ones(2, 4), algorithm.needs, tag_masks={"observation": block}
    )
    step = replace(step, columns=step.columns | {"seen": torch.tensor([[2.0, 1.0]]).double()})
    both = replace(step, reward_weights={"accuracy": 1.0, "seen": 0.5})
    high = 0.5 / (0.5**0.5 + 1e-4)
    low = 0.25 / (0.125**0.5 + 1e-4)  # of a reward of half the weight: only the constant beside the std differs
    found = algorithm.credit(both).advantages
    assert found[0].tolist() == pytest.approx([low, low, -high, -high]) and found[1].tolist() == pytest.approx(
        [high] * 4
    )
    without = algorithm.credit(replace(step, reward_weights={"accuracy": 1.0})).advantages
    assert without[0].tolist() == pytest.approx([-high] * 4), "as grpo"
    flat = replace(both, columns=both.columns | {"seen": torch.ones(1, 2).double()})
    assert algorithm.credit(flat).advantages[0].tolist() == pytest.approx([0, 0, -high, -high])


def entropy_gradient(number, max_steps, **settings):
    """d loss / d logits at the logits (1, 0) in a step of two flat completions of one token."""
    algorithm = build("algorithms", "two_stage_entropy", beta=0.0, **settings)
    step = step_of([[0.0, 0.0]], 1, number=number, max_steps=max_steps)
    logits = torch.tensor([1.0, 0.0], requires_grad=True)
    logps = logits.log_softmax(0)
    entropy = -(logps.exp() * logps).sum()
    assert entropy.item() == pytest.approx(0.582, abs=1e-3)
    batch = assign_credit(algorithm, step).with_outputs(1, entropy.expand(2, 1), torch.zeros(2, 1))
    losses, _ = algorithm.loss(logps[0].expand(2, 1), batch)
    (losses * batch.weights).sum().backward()
    return logits.grad


def test_entropy_rises_and_then_falls_and_each_step_has_one_stage():
    c = 0.01
    for number, sign in ((1, 1), (8, 1), (9, -1), (10, -1)):  # the switch is after step 8 of 10
        gradient = entropy_gradient(number, 10, first_coef=c, second_coef=-c)
        assert gradient.tolist() == pytest.approx([sign * c * 0.1966, -sign * c * 0.1966], abs=1e-6)
    assert entropy_gradient(1, 10, switch=0.0)[0] < 0 < entropy_gradient(10, 10, switch=1.0)[0]


def test_a_running_scale_equals_hand_computed_values():
    ema = build("algorithms", "ema_grpo")
    scale = ema.scale(torch.tensor([[1.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]]), 0.5, 0.5)
    assert torch.allclose(scale, torch.tensor([[1.0, -1, 0, 0], [1.5, -0.5, -0.5, -0.5]]), atol=1e-5)
    large = ema.scale(torch.tensor([[1.0] + [0.0] * 7]), 0.5, 0.5**2 + 0.05**2)  # .875 / .05 = 17.5 > 5
    assert large[0, 0].item() == pytest.approx(0.875 / 0.3307, abs=1e-3)
    assert ema.scale(torch.tensor([[0.3, 0.3]]), 0.3, 0.3**2).tolist() == [[0, 0]], "a scale of 0 is floored"


def test_a_running_scale_is_that_of_the_prompts_domain():
    ema, memory = build("algorithms", "ema_grpo", decay=0.9), {}
    rewards, domains = [[1.0, 0.0], [4.0, 0.0], [1.0, 1.0]], ["choice", "number", "choice"]
    step = step_of(rewards, 1, domains=domains, memory=memory)
    ema.observe(step)
    assert memory["moments"] == {"choice": [0.5, 0.5], "number": [2.0, 8.0]}, "the flat group is left out"
    credit = ema.credit(step).advantages.flatten()
    assert credit.tolist() == pytest.approx([1, -1, 1, -1, 0, 0], abs=1e-5)
    ema.observe(step_of([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]], 1, domains=domains, memory=memory))
    ema.observe(step_of([[1.0, 0.0, 0.0, 0.0]], 1, domains=["number"], memory=memory))
    assert memory["moments"]["choice"] == [0.5, 0.5]
    assert memory["moments"]["number"] == pytest.approx([0.9 * 2 + 0.1 * 0.25, 0.9 * 8 + 0.1 * 0.25])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("video_ktr", {"criteria": ("pixels",)}, "criteria must be some of visual, temporal, entropy"),
        ("video_ktr", {"selection": "rand"}, 'selection must be "top" or "random"'),
        ("vppo", {"share": 0.0}, r"share must be in \(0, 1\]"),
        ("pgpo", {"threshold": 1.0}, r"threshold must be in \(0, 1\)"),
        ("two_stage_entropy", {"entropy_coef": 0.1}, "take the place of entropy_coef"),
        ("ema_grpo", {"scale_rewards": "batch"}, 'scale_rewards must be "group"'),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(name, fields, message):
    with pytest.raises(UserError, match=message):
        build("algorithms", name, **fields)
