"""Compare the records of two commits."""
