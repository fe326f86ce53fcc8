"""Encoders, decoders and critics. One file per network, named like its yaml."""
