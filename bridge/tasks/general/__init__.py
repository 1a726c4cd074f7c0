"""Readers of layouts that hold many tasks."""
