"""rlvid: try out reward models and RL algorithms for video reasoning, on the SEED-Bench-R1 benchmark.

Every command of the command line is a function here with the same arguments. It prints what the command prints and
returns the data behind it:

    train           rlvid train PRESET ...      -> metrics of the last step
    evaluate        rlvid eval MODEL ...        -> metrics such as eval/L1/accuracy
    check_config    rlvid config PRESET ...     -> the Config, with all defaults
    estimate_memory rlvid train --plan          -> an estimate of each device's memory
    grid            rlvid grid SCRIPT ...       -> the exit code
    tune            rlvid tune SCRIPT ...       -> the exit code
    probe           rlvid probe REWARD ...      -> what a reward pays for: a ProbeResult, as data and in a notebook
    parity          rlvid parity MODEL ...      -> whether trainer, sampler and published processor agree
    report          rlvid report RUNS           -> a Report: rows of numbers; tables in a notebook
    watch           rlvid watch RUNS
    audit           rlvid audit RUN
    replies         rlvid replies RUN ...       -> shares of kinds of replies, and what rewards pay for them
    compare         rlvid compare A B           -> the selected questions with both answers
    attention       rlvid attention RUN ...     -> the path of the picture
    credit          rlvid credit RUN ...        -> a step's completions, with each token's credit
    export          rlvid export RUN FOLDER
    list_names      rlvid list WHAT             -> names with descriptions, fields and sources
    check_data, download_data, write_kitchen, write_kitchen_long, write_pairs        rlvid data ...
    measure_speed   rlvid bench ...             -> the measurements
    measure_gpu     rlvid bench gpu             -> what was checked and measured on a GPU

A first session, of about a minute on a laptop:

    import rlvid
    rlvid.train("nano", ["algorithm=dr_grpo", "train.max_steps=10"], out="runs/first")
    rlvid.audit("runs/first")
    rlvid.report("runs", plots=False)

Overrides are TOML assignments; one alone may be a string: train("nano", "train.max_steps=1"). Mistakes raise UserError.

What a reward of one's own needs, and its unit test in one line (see rewards/README.md):

    from rlvid import Completion, Prompt, each, score
    score("accuracy", Prompt("q", "Which?", options=("a pan", "a cup"), answer="B"), ["<answer>B</answer>"])  # [1.0]

An algorithm of one's own derives from `rlvid.algorithm.Algorithm`, an experiment is a `rlvid.grids.Grid`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlvid.api import (
        attention,
        audit,
        check_config,
        check_data,
        compare,
        credit,
        download_data,
        estimate_memory,
        evaluate,
        export,
        grid,
        list_names,
        measure_gpu,
        measure_speed,
        parity,
        probe,
        replies,
        report,
        train,
        tune,
        watch,
        write_kitchen,
        write_kitchen_long,
        write_pairs,
    )
    from rlvid.errors import UserError
    from rlvid.reward import each
    from rlvid.scoring import score
    from rlvid.types import Completion, Group, Prompt

__all__ = [
    "Completion",
    "Group",
    "Prompt",
    "UserError",
    "attention",
    "audit",
    "check_config",
    "check_data",
    "compare",
    "credit",
    "download_data",
    "each",
    "estimate_memory",
    "evaluate",
    "export",
    "grid",
    "list_names",
    "measure_gpu",
    "measure_speed",
    "parity",
    "probe",
    "replies",
    "report",
    "score",
    "train",
    "tune",
    "watch",
    "write_kitchen",
    "write_kitchen_long",
    "write_pairs",
]

_ELSEWHERE = {  # name -> its module; all others are in rlvid.api
    "Completion": "rlvid.types",
    "Group": "rlvid.types",
    "Prompt": "rlvid.types",
    "UserError": "rlvid.errors",
    "each": "rlvid.reward",
    "score": "rlvid.scoring",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `import rlvid` is fast."""
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("rlvid")
    if name not in __all__:
        from rlvid.utils.renamed import renamed_hint

        raise AttributeError(f"module 'rlvid' has no attribute {name!r}{renamed_hint('command', name)}")
    return getattr(import_module(_ELSEWHERE.get(name, "rlvid.api")), name)


def __dir__() -> list[str]:
    """Return the public names, for completion in a notebook."""
    return sorted({"__all__", "__doc__", "__file__", "__name__", "__path__", "__version__", *__all__})
