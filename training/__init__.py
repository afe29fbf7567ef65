"""Trains reward models and policies from a pinned snapshot."""
