"""Recorded topics: written, read, replayed, explained, simulated and imported."""
