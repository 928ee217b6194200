"""How long a call of a graph takes, here and beside other runtimes."""
