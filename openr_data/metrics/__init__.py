"""Metrics of step scores and of solutions against the truth, computed from plain numbers."""
