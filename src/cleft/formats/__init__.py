"""Labels as other programs want them, and their annotations as labels."""
