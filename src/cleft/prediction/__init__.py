"""An image and a model to labels."""
