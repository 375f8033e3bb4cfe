"""From disk to Image and back."""

from cleft.io.files import atomic_path
from cleft.io.lazy import LazyImage
from cleft.io.pairs import Pair, base_name, by_name, find_images, find_named, find_pairs, find_tree
from cleft.io.read import check_pixels, open_image, read_image, read_labels
from cleft.io.write import write_image, write_labels, write_series

__all__ = [
    "LazyImage",
    "Pair",
    "atomic_path",
    "base_name",
    "by_name",
    "check_pixels",
    "find_images",
    "find_named",
    "find_pairs",
    "find_tree",
    "open_image",
    "read_image",
    "read_labels",
    "write_image",
    "write_labels",
    "write_series",
]
