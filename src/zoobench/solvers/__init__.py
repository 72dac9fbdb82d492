"""Pure tensor maths, no I/O, the same code on CPU and CUDA. N examples, D features, C classes.

Nothing is imported here: a solver's module loads torch when it is asked for.
"""
