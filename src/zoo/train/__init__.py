"""From an entry of params.yaml and data to trained weights: one loop for every experiment."""
