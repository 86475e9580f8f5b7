"""The command line: Typer and Rich live only here, and torch is not imported before work starts."""
