"""What the exported graphs are worth: scores, pictures, and samples judged by a classifier. No torch."""
