"""Fills as Polygon recorded them: subgraph, node, files, and the one decoder."""
