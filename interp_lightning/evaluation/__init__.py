"""Measure a trained model: protocol, sample of images, measures, assessment."""
