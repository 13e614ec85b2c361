"""How long does an optimizer step take, and how much memory, compared with TRL and with the paper's own scheme?

The workload is the paper's: 930 prompt tokens, of which 729 are visual, and eight completions of 150 tokens. A sweep
over the number of completions and the lengths follows. On a GPU: `--preset 7b`.

python experiments/bench_step.py --preset 20m
"""

import sys

from rlvid.__main__ import main

if __name__ == "__main__":
    code = main(["bench", "step", "--against", "trl", "rows", "reference", *sys.argv[1:]])
    raise SystemExit(code or main(["bench", "sweep", "--repeats", "1", *sys.argv[1:]]))
