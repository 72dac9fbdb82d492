"""Folders of generated pictures: how far they are from real ones, how near pairs are, and what is
a copy.

Any generator, super-resolution or style transfer is judged by what it wrote; none is trained or
run here.
"""
