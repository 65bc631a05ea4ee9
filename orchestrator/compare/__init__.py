"""Every method of the paper's tables on one dataset: columns, runs, tables and figures."""
