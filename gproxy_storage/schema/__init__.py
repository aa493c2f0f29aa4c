"""The schema: what the models want, what the database has, and the way from one to the other."""
