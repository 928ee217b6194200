"""One file an idea; each holds one class called `Network`, and `zoo.params` finds it by the file's name."""
