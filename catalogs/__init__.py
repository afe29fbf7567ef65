"""Catalogs of named things: question sources, models, recipes, ready queries, and the arithmetic world."""
