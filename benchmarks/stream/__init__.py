"""Streaming sessions, measured: how many at once, how large, how steady, and what they hear."""
