"""One run on paper: figures and tables."""
