"""The compiled kernel: one market's book, our orders in it, several readings in one pass over the data."""

from pm_pipeline.engine.kernel.book import touches
from pm_pipeline.engine.kernel.grid import Grid
from pm_pipeline.engine.kernel.latency import Latency
from pm_pipeline.engine.kernel.orders import (
    REASONS,
    Code,
    FillEvidence,
    Lane,
    NewOrder,
    QueueMode,
    Status,
    TimeInForce,
    VenueRules,
    lane_of,
)
from pm_pipeline.engine.kernel.reader import StoredStream
from pm_pipeline.engine.kernel.session import Results, Session, warm
from pm_pipeline.engine.kernel.stream import Stream, StreamSource

__all__ = [
    "REASONS",
    "Code",
    "FillEvidence",
    "Grid",
    "Lane",
    "Latency",
    "NewOrder",
    "QueueMode",
    "Results",
    "Session",
    "Status",
    "StoredStream",
    "Stream",
    "StreamSource",
    "TimeInForce",
    "VenueRules",
    "lane_of",
    "touches",
    "warm",
]
