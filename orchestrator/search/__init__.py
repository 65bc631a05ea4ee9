"""Which configuration to try next, and which to stop: Optuna behind Ray Tune's searcher, and ASHA."""
