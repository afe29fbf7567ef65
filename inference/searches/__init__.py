"""Searches for solutions, one algorithm per file."""
