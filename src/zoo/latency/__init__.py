"""Measure the latency of exported graphs in ONNX Runtime and in other runtimes."""
