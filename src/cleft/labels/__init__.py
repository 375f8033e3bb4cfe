"""Floor 2: what is true of labelled cells. No torch here."""
