"""Tags for templates: of the admin, and of projects."""
