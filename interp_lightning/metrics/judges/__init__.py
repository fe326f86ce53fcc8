"""Judges that are trained on a data set's own images: network, recipe, files."""
