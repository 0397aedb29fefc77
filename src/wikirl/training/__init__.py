"""Losses, optimizers and the training generator."""
