"""The suite of canx_flow: mirrors the package name for name. Also an installed app, for its models and workflows."""
