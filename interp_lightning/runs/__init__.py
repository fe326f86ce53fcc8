"""Runs on disk: make, find, record and load them; their checkpoints, results and sweeps."""
