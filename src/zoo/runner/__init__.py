"""Run the stages of a DVC pipeline in parallel, independent of what they compute."""
