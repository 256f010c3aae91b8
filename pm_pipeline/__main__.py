"""``python -m pm_pipeline`` is ``bt``."""

from pm_pipeline.cli import main

main(prog_name="bt")
