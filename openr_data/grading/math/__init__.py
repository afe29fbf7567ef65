"""The mathematical domain: final answers in texts, and whether two of them are the same."""
