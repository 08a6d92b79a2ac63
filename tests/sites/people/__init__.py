"""People who have no user name: an email address, and a UUID as their key."""
