"""Backbones, and how to split them into a frozen front and a trainable tail."""
