"""A project whose own models are on unfold's pages, too, with their runs."""
