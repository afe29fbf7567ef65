"""Reward models that score the steps of a solution."""
