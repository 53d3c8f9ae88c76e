"""What stops a command with a message instead of a traceback."""


class Failure(Exception):
    """Says what is wrong and what to do."""
