"""A judge without an endpoint is refused before a run."""

import pytest

from rlvid import api
from rlvid.errors import UserError


def test_a_config_with_a_judge_needs_an_endpoint():
    for mix in ("rewards.consistency_judge=0.1", "eval.rewards.consistency_judge=1"):
        with pytest.raises(UserError, match=r"a reward needs \"judge\": .* judge\.url="):
            api.check_config("nano", [mix])
    endpoint = ["judge.url=http://localhost:8000/v1", "judge.model=some"]
    api.check_config("nano", ["rewards.consistency_judge=0.1", *endpoint])
