"""From trained weights to ONNX graphs, what identifies them, and the sessions that run them."""
