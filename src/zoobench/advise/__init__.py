"""Which model to take for data that no run has seen, within a budget of seconds.

`policy`, `seconds` and `verdict` are pure; `worker` runs in the worker process, and `loop`
leads it. State lives in a run directory: records, predictions, and advice.jsonl.
"""
