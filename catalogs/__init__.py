"""Lists of named things: question sources, models, recipes, and the arithmetic world."""
