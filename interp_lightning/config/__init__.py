"""Compose and check configurations."""
