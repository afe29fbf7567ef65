"""Searches for solutions, one algorithm a file."""
