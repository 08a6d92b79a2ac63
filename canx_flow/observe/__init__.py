"""What the engine tells the outside: log lines and Django signals."""
