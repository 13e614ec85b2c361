"""`normalize_then_sum` (GDPO) is refused where it would replace what sets an algorithm apart."""

import pytest

from rlvid.errors import UserError
from rlvid.registry import build

pytestmark = pytest.mark.fast
GDPO = {"multi_objective_aggregation": "normalize_then_sum"}
OWN_RULE = {name: {} for name in ("qae", "mc_grpo", "max_rl", "pass_at_k", "rloo", "reinforce", "reinforce_pp", "sft")}
OWN_RULE |= {"rloo": {"scale_rewards": "group"}}


@pytest.mark.parametrize("name", [*OWN_RULE, "strive"])
def test_normalize_then_sum_does_not_replace_an_advantage_of_the_algorithms_own(name):
    fields = {"normalize": "variant"} if name == "strive" else OWN_RULE[name]
    with pytest.raises(UserError, match=rf"{name}': .*the algorithm's own advantages have no place: leave it out"):
        build("algorithms", name, **GDPO, **fields)


@pytest.mark.parametrize(
    ("name", "fields"), [("dr_grpo", {}), ("grpo", {"scale_rewards": "batch"}), ("strive", {"scale_rewards": "none"})]
)
def test_normalize_then_sum_is_refused_with_a_scale_that_it_does_not_read(name, fields):
    with pytest.raises(UserError, match='where scale_rewards has no effect: set it to "group"'):
        build("algorithms", name, **GDPO, **fields)


@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "cispo", "papo", "noisy_rollout", "strive", "dpo", "kto"])
def test_normalize_then_sum_is_kept_where_nothing_is_replaced(name):
    assert build("algorithms", name, **GDPO, max_num_gen_batches=1).multi_objective_aggregation == "normalize_then_sum"
    assert build("algorithms", "dr_grpo", scale_rewards="group", **GDPO).scale_rewards == "group"


def test_an_algorithm_from_outside_is_held_to_the_same(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom algorithms.grpo import GRPO\n\n\n@dataclass(frozen=True)\n"
        "class Mine(GRPO):\n    def advantages(self, rewards):\n        return rewards\n"
    )
    with pytest.raises(UserError, match="own advantages have no place"):
        build("algorithms", f"{tmp_path}/mine.py", **GDPO)
