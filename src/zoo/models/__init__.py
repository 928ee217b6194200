"""Model files: one idea each, in a class called `Network`, which `zoo.params` finds by the file's name."""
