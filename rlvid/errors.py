"""The one exception for mistakes that the user can fix."""


class UserError(ValueError):
    """An error in the input. Its message is one line: what is wrong, where, and how to fix it.

    The command line prints the message without a traceback and exits with code 2.
    """


NOT_FINITE = (
    "not finite"  # in the message of a run that ended on a loss that is no number; a failed trial of `rlvid tune`
)
