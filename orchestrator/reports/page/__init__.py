"""A study as one HTML page: what it found in figures, offline, with the record behind every number."""
