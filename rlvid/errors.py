"""The one error that is the user's to mend: the command line prints it as one line and exits with 2."""


class UserError(ValueError):
    """Says what is wrong, where, and how to mend it."""
