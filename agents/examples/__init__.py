"""Whole algorithms in single files, to read and to take apart."""
