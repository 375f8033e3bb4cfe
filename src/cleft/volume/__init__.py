"""Images of any size to labels, block by block."""
