"""Children: runs that a run calls or spawns, sync and async."""
