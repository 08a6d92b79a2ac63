"""How fast the engine is, beside what the database itself gives: `make bench`. See docs/performance.md."""
