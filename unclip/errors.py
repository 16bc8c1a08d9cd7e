"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: where, what is wrong, what was expected, what to do. Stages and the
    command line print it without a traceback and exit with a status that is not 0.
    """
