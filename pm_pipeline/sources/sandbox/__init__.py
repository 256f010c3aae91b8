"""An embedded world that speaks the wire formats of the venues.

The real clients run against it unchanged, in process or on a loopback port. What it serves is generated from
a seed, or recorded; every answer is labelled as the sandbox's.
"""

from pm_pipeline.sources.sandbox.app import build_app
from pm_pipeline.sources.sandbox.fault_names import Fault
from pm_pipeline.sources.sandbox.faults import Faults, Planned
from pm_pipeline.sources.sandbox.generator import generate_world
from pm_pipeline.sources.sandbox.serve import load_world, running_server, serve
from pm_pipeline.sources.sandbox.world import World, WorldEvent, WorldMarket

__all__ = [
    "Fault",
    "Faults",
    "Planned",
    "World",
    "WorldEvent",
    "WorldMarket",
    "build_app",
    "generate_world",
    "load_world",
    "running_server",
    "serve",
]
