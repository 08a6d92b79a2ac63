"""What people are shown of runs and workers: read here, drawn by the admin, the terminal and the API.

`reading` alone reads waits, failing steps, workers' reports, silence and durations; `overdue` and `serving` stand upon
it. `why` alone decides why a run does not move, by `evidence`, in the words of `reasons`. `status` (one run, for
programs), `timeline` (one run, for people) and `health` stand on these. `display` shows stored values through `REDACT`.
"""
