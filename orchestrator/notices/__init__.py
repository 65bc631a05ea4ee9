"""News of a study for people who do not watch it: kept on disk, delivered beside the run."""
