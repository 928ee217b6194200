"""Runs a DVC pipeline several stages at a time; knows nothing of experiments."""
