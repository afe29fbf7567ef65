"""What labels, reward models and searches are worth, measured."""
