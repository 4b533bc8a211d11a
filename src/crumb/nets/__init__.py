"""Backbones, and the one way to split them into a frozen front and a trainable tail."""
