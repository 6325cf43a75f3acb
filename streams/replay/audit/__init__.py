"""Audit: what the commit log, the outputs and the store say, held against the pure engine."""
