"""Which pretrained model to use, what it costs, and how sure one can be."""

__version__ = "0.1.0"
