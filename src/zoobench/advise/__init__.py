"""Which model to take for data that no run has seen, within a budget of seconds.

`decide`, `predict` and `answer` are pure; `desk` works in the worker process, `doing`
leads it. State lives in a run directory: records, predictions, and advice.jsonl.
"""
