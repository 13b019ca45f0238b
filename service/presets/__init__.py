"""Sweeps that are shipped, each of which asks one question."""
