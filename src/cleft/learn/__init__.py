"""Floor 4: images and labels to a model."""
