"""What happens around training: the progress bar, the figures, the orderly stop."""
