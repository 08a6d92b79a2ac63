"""The processes of `runflowworker`: start-up, supervisor, watchdog, signals."""
