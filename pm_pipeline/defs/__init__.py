"""The Dagster skin: assets, partitions, checks, jobs, schedules and sensors."""
