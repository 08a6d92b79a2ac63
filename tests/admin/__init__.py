"""The admin: what it shows, who may do what in it, and what it leaves behind."""
