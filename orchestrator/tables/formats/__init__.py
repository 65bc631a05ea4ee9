"""One module per format; each calls its `Format` ``FORMAT`` and is found by lying here."""
