"""The text of an answer as exact values: tokens, numbers, units, expressions, sets and relations."""
