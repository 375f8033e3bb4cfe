"""Floor 6: the doors. A verb is a few lines over the library; nobody imports from here."""
