"""Floor 3: what has weights. The network and the file it lives in."""
