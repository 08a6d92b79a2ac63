"""Its connections are wrapped."""
