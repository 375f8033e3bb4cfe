"""Floor 0: the vocabulary. Image, tiles, settings, errors."""
