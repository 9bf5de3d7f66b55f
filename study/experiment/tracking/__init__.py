"""A study in MLflow: its runs (`tracker`), what its UI shows of them (`views`, `gallery`), the
model registry, and whether the server lets us in (`access`).

What the tracker writes can be told again from the event log at any time.
"""
