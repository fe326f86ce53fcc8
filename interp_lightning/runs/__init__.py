"""A run's folder on disk: build, load, record, find."""
