"""Show records and jobs to people."""
