"""Dataset formats, one file each: every file reads and writes one format."""
