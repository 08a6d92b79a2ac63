"""PostgreSQL: `session` runs its statements, `statements` holds the long ones, `opening` opens the engine's own
connections, and `libpq` is spoken to where psycopg itself costs too much.
"""
