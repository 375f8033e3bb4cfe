"""cleft in napari: see the cells of an image, correct a few, let the model learn, see again."""
