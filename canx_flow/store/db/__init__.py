"""The plumbing below the verbs: sessions, statements of each database, and what their errors mean."""
