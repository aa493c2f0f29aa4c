"""Repositories: one an aggregate, what a proxy does with its tables."""
