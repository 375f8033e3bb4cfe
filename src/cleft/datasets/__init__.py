"""Public sets of annotated images."""
