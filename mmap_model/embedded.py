"""What ships with this package to test it. Named here, where nothing heavy is imported."""

EMBEDDED = ("symbols", "symbols_groups")
"""Datasets that are no evidence for or against a method."""
