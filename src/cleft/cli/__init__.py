"""The command line: a verb is a few lines over the library."""
