"""Replay memory: storage, selection and sampling of exemplars."""
