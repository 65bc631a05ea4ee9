"""From the records of a study to a file that does what was measured: choice, writing, checking, registry."""
