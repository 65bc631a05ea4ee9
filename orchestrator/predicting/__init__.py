"""Labelling images in bulk with an exported classifier, part by part, so that it can be stopped."""
