"""Repositories: the operations of a proxy on its tables, one module per aggregate."""
