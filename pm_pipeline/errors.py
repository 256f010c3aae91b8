"""The errors a user may see. Each says what happened and what to do, and carries its exit status."""

from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """Something failed that is not the user's input: a source, a file, a rule that does not hold.

    The command line prints the message without a traceback and exits with ``exit_status``.
    """

    exit_status = 1


class UsageError(PipelineError):
    """The user's input cannot be carried out: an unknown name, a bad date, a key that does not exist."""

    exit_status = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known names, or a list of what there is.

    Empty when nothing is known. Made to be appended to an error message.
    """
    names = sorted({str(name) for name in known})
    near = get_close_matches(word, names, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; known: {shown}"
