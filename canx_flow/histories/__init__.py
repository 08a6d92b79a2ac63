"""Stored histories, replayed against today's code without side effects, and written as JSON for golden tests.

Used by `flowreplay`, `flow export` and `canx_flow.testing`.
"""
