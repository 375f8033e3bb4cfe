"""The errors cleft raises for its users."""

__all__ = ["CleftError", "DataError", "ModelError"]


class CleftError(Exception):
    """Something the user gave can't be used; the message says what and what was expected.

    Every error meant for users derives from it, so ``except cleft.CleftError`` catches them all and
    nothing else. The command line prints the message without a traceback.

    Example:
        >>> raise CleftError("cells.tif: found 5 axes, expected 2 or 3")
        Traceback (most recent call last):
        cleft.core.errors.CleftError: cells.tif: found 5 axes, expected 2 or 3
    """


class DataError(CleftError):
    """An image, a mask or a folder of them can't be used."""


class ModelError(CleftError):
    """A model file is damaged, foreign, or doesn't fit the image."""
