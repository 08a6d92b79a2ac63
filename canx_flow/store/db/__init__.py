"""The plumbing below the verbs: a session for each connection, and the statements of each database.

`databases` chooses by the kind of database, and says what to touch for a new one. `session` and `portable` hold what
any database takes; `postgresql`, `mysql` and `sqlite` what differs. `own`, `engine` and `deadlines` are about the
engine's own connections; `lending`, `lent`, `opening`, `effects` and `foreign` about a project's. `errors` says what an
error means.
"""
