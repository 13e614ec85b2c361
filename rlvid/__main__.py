"""The entry point of the command `rlvid`.

Exit codes: 0 success; 1 an internal error; 2 an error in the input or in a plug-in or script, with one line that says
what is wrong, where, and how to fix it (`--traceback` shows the whole traceback); 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from rlvid.cli.completion import answer_shell
from rlvid.cli.parser import check_command, parser
from rlvid.errors import UserError
from rlvid.utils.collection import skip_collection_at_exit
from rlvid.utils.mistakes import explain

TRACEBACK = "--traceback"  # an option of every command, anywhere on the line
# How a command continues after an interrupt; other commands start anew.
CONTINUES = {"train": "the same command with --resume continues"}
CONTINUES |= dict.fromkeys(("eval", "grid", "tune"), "the same command continues")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    skip_collection_at_exit()
    with_traceback = TRACEBACK in arguments
    words = [word for word in arguments if word != TRACEBACK]
    try:
        answer_shell(top := parser())
        check_command(words)
        args = top.parse_args(words)
        return args.command(args) or 0
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        print_error(error, line, with_traceback)
        return 2
    except KeyboardInterrupt:
        print("; ".join(filter(None, ("rlvid: interrupted", CONTINUES.get("".join(words[:1]))))), file=sys.stderr)
        return 130


def print_error(error: Exception, line: str, with_traceback: bool = False) -> None:
    """Print one line about an error to stderr, after its traceback if that is asked for."""
    if with_traceback:
        traceback.print_exception(error)
    hint = "" if with_traceback or isinstance(error, UserError) else f" ({TRACEBACK} shows the whole traceback)"
    print(f"rlvid: {line}{hint}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
