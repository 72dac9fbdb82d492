"""What a model costs: operations counted, bytes, time and memory."""
