"""``digits``: a digit seen, spoken, written and read from lips, from any subset of the four."""
