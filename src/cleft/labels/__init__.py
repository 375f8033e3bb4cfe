"""What is true of labelled cells. No torch here."""
