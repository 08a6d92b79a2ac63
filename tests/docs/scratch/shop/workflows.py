"""Empty, until a page defines workflows."""
