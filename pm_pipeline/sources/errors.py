"""What can go wrong when a source is read. Every message is safe to print: no header, no key."""

from pm_pipeline.errors import PipelineError


class SourceError(PipelineError):
    """A source could not be read, or said something that cannot be right."""


class SourceUnavailable(SourceError):  # noqa: N818 - the state of the source, not a mistake of the caller
    """The source did not answer, however often it was asked."""


class BadRequest(SourceError):  # noqa: N818
    """The source refused the request; ``status`` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BadResponse(SourceError):  # noqa: N818
    """The source answered, but a field is missing, of another type, or impossible."""


class RepeatedCursor(BadResponse):
    """The source gave the same page again: going on would loop for ever, stopping would lose rows."""


class PageNotArchived(SourceError):  # noqa: N818
    """A replay asked for a page that was never fetched."""


class UnsupportedError(SourceError):
    """The venue does not offer this at all."""


class QuietSourceError(SourceError):
    """A source answered, but is silent of a time of which it should tell."""
