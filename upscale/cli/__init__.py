"""The command line, built with Typer and Rich; torch is imported only when work starts."""
