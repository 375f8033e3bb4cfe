"""(logits, classes) -> a number to make small."""
