"""Learning from a pinned snapshot: reward models and policies."""
