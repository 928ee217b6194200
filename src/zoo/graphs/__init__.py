"""ONNX graphs: their export from trained networks, their identity, and the sessions that run them."""
