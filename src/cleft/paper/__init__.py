"""Floor 5: the paper's figures as studies that run: each writes a picture and the numbers behind it."""
