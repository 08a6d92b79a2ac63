"""What joins canx_flow to other packages. Nothing else imports it: a project that has both asks for a part of it."""
