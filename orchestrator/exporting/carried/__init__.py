"""Files that go into artefacts and run where this software is not: they import nothing of it."""
