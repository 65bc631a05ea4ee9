"""The faults by what they hit; each does real harm to a running study and reports what became of it."""
