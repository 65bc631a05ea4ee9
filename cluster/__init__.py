"""Where studies run: job submission, authentication, health checks and launch files. Knows no science."""
