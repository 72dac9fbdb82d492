"""What becomes predict.py in a saved folder, one script a library, copied as it is.

zoobench predicts by the same functions `load`, so that both say the same. The scripts know nothing
of zoobench; what they share is written out in each, since each stands alone.
"""
