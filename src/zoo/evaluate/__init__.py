"""Evaluation of exported graphs, without torch: metrics, figures, and samples judged by a classifier."""
