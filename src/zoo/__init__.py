"""ReproZoo: small published models trained, exported as ONNX, judged on the exported graphs, and timed."""
