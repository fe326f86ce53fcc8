"""Compose and check configurations. Imports torch only to check the settings of a class."""
