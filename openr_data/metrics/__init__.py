"""What scores are worth: metrics of step scores and of solutions against the truth, from numbers alone."""
