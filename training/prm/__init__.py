"""Trains process reward models."""
