"""Work that lasts: a balancer that runs it, tasks that do it, and their record in the database."""
