"""The tuning session: compile, measure and prove in workers, then promote to rows. All of it resumes from disk."""
