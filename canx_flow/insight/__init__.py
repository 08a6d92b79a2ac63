"""What people are shown of runs and workers: read here, drawn by the admin, the terminal and the API.

`reading` alone reads waits, failing steps, workers' reports, silence and durations. `status` (one run, for programs),
`timeline` (one run, for people), `positions` (the runs of a list), `overdue` and `serving` stand upon it, and `health`
on these. `display` shows stored values through `REDACT`.
"""
