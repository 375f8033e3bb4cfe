"""Damaged files of every format, by the thousand: see run.py."""
