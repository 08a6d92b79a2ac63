"""A crash right before and right after every write of the engine: see `__main__`, and tests/faults/test_crashes.py."""
