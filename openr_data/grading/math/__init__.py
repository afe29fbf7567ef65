"""Final answers in mathematics: what they are, and whether two of them are the same."""
