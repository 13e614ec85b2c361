"""Shared by rewards that judge a reply's `<observation>` blocks."""

import re

from rlvid.types import Completion

_OBSERVATION = re.compile(r"<observation>(.*?)</observation>", re.DOTALL)


def observation_blocks(completion: Completion) -> list[str]:
    """Return the texts of a reply's `<observation>` blocks, in order; "" for an empty one."""
    return [block.strip() for block in _OBSERVATION.findall(completion.text)]
