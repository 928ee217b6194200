"""Training: from an entry of params.yaml and its data to weights, with one loop for all experiments."""
