"""Compare what trainer, sampler and published processor see, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvid.api.arguments import as_list
from rlvid.api.evaluated import evaluation_config
from rlvid.errors import UserError


def parity(model: str | Path, data: str | Path | None = None, overrides: str | Sequence[str] = ()) -> bool:
    """Print a table of the comparisons that a run makes before its first step (rlvid/policy/parity.py).

    Args:
        model: as of `evaluate`.
        data: a benchmark, see `rlvid list benchmarks`; by default that of the model's config.
        overrides: TOML assignments such as ["video.max_frames=8"]; one alone may be a string.

    Returns:
        Whether nothing differs.
    """
    from rlvid.policy.architecture import check_model
    from rlvid.utils.logging import silence_libraries

    config = evaluation_config(model, data, (), as_list(overrides))
    check_model(config.model)
    silence_libraries()
    import torch
    from rich.console import Console
    from rich.table import Table

    from rlvid.data.prompts import held_out_prompts
    from rlvid.policy.model import Policy
    from rlvid.policy.parity import compare, probes

    levels = held_out_prompts(
        config.data, config.eval.splits, config.eval.transfer, config.eval.limit, config.eval.protocol
    )
    prompts = probes([prompt for level in levels.values() for prompt in level])
    if not prompts:
        raise UserError(f"{config.data}: no held-out prompts to compare on")
    policy = Policy.load(config.model, config.train, config.video, config.seed).eval()
    policy = policy.to("cuda" if torch.cuda.is_available() else "cpu")
    checks = list(compare(policy, prompts, config.train))
    policy.frames.close()
    table = Table("sample", "shows", "comparison", "difference", box=None, padding=(0, 2, 0, 0))
    for check in checks:
        table.add_row(check.sample, check.kind, check.name, check.difference or "none")
    Console().print(table, markup=False)
    return not any(check.difference for check in checks)
