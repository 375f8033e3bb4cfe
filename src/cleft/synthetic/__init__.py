"""Made images of crowded cells of known truth."""
