"""The entry point of the command `rlvid`.

Exit codes: 0 success; 1 an internal error; 2 an error in the input, with one line that says what is wrong, where, and
how to fix it; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rlvid.cli.completion import answer_shell
from rlvid.cli.parser import check_command, parser
from rlvid.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        answer_shell(top := parser())
        check_command(arguments)
        args = top.parse_args(arguments)
        return args.command(args) or 0
    except UserError as error:
        print(f"rlvid: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rlvid: interrupted; the same command with --resume continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
