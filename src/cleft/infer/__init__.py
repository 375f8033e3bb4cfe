"""Floor 4: an image and a model to labels."""
