"""The example shop: what people copy from must be right."""
