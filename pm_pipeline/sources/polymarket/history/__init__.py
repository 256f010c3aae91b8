"""What was quoted and traded: mid points and taker executions."""
