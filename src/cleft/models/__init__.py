"""What has weights: the network, the file it lives in, the models that ship."""
