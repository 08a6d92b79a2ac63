"""What people are told of runs and workers: read once here, shown by the admin, the terminal and the API."""
