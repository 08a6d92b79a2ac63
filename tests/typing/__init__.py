"""What type checkers say to users: the modules here are read by mypy and never run."""
