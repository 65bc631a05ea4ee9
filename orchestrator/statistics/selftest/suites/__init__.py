"""One simulation each, found by lying here: a module with ``SUITE``."""
