"""The one exception for mistakes that the user can fix."""


class UserError(ValueError):
    """An error in the input. Its message is one line: what is wrong, where, and how to fix it.

    The command line prints the message without a traceback and exits with code 2.
    """


# In the message of a run that ended because a loss, gradient or metric was infinite or NaN. `rlvid tune` looks for it.
NOT_FINITE = "not finite"
