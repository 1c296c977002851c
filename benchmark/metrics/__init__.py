"""Similarities of two batches of maps."""
