"""Rows of work: a configuration at some splits and seeds, from the item that is queued to its record."""
