"""Figures of generated text."""
