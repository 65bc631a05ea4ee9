"""Artefacts behind HTTP: one FastAPI application, in a process of its own or on Ray Serve."""
