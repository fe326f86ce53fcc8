"""Ways from one code to another. One file per kind, named like its yaml."""
