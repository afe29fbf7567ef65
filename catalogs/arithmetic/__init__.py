"""The arithmetic world: word problems with known steps, an oracle that judges any step, and a small policy."""
