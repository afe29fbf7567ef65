"""The arithmetic world: word problems whose every step is known, an oracle, and a small policy."""
