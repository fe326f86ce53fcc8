"""Pure functions of tensors, without state or settings."""
