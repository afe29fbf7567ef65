"""Shows records, jobs and evaluations in the terminal and as plots."""
