"""Prepared stores: images laid out once for fast, shared reading."""
